"""The starter models: students of dadkit-timm with weights that come in the package."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from dadkit_timm.model import TimmStudent

from dadkit_starter.options import INCLUDED

__all__ = ["Starter"]

_ENCODER = "tf_efficientnet_lite0.in1k"
_SIZES: dict[str, dict[str, Any]] = {"small": {"channels": 32}, "tiny": {"channels": 16, "levels": 4}}


class Starter(TimmStudent):
    """A small depth model that comes with its weights: relative disparity, larger = nearer.

    Args:
        size: ``"small"`` or ``"tiny"``.
        weights: ``"included"``, a file, or None for random weights; see :mod:`dadkit_starter.options` for this and the rest.
        init: ``"all"``, ``"encoder"`` or ``"none"`` of the weights.
        native_size: the shorter side that ``predict`` aims at.

    Source: trained by dadkit; the plugin's README is the model card.
    """

    def __init__(
        self,
        size: str,
        *,
        weights: str | Path | None = INCLUDED,
        init: Literal["all", "encoder", "none"] = "all",
        native_size: int = 256,
    ) -> None:
        included = weights == INCLUDED
        file = Path(__file__).with_name(f"{size}.safetensors") if included else weights
        super().__init__(_ENCODER, weights=file, init=init, native_size=native_size, **_SIZES[size])
        licence = "CC-BY-NC-4.0" if included and init != "none" else self.spec.license
        upsampling: Literal["bicubic", "bilinear"] = (
            "bicubic" if size == "small" else "bilinear"
        )  # sharper edges; tiny's are soft either way
        self.spec = replace(self.spec, name=f"starter-{size}", license=licence, upsampling=upsampling)
