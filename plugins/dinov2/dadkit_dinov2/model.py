"""DINOv2 as a frozen dadkit encoder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from torch import Tensor

from dadkit.interfaces import FeatureEncoder, NetworkSpec, SizePolicy
from dadkit.weights import load_family
from dadkit_dinov2.keys import looks_like, to_encoder
from dadkit_dinov2.network import Encoder
from dadkit_dinov2.sizes import PATCH, SIZES

__all__ = ["DINOv2"]


class DINOv2(FeatureEncoder):
    """DINOv2 without registers: ``tokens``, the last block's patch tokens after the final norm, (B, N, C).

    Args:
        size: a key of :data:`dadkit_dinov2.sizes.SIZES`.
        weights: file, folder or ``hf://ORG/NAME``; None for random weights. See :class:`dadkit_dinov2.options.Options`.
        pos_embed: ``"official"`` or ``"hf"``.

    Raises:
        WeightsError: the file cannot be read, or is not this model's; the message says which size it looks like.

    Source: Oquab et al., DINOv2: Learning Robust Visual Features without Supervision (TMLR 2024).
    """

    def __init__(
        self, size: str, *, weights: str | Path | None = None, pos_embed: Literal["official", "hf"] = "official"
    ) -> None:
        super().__init__()
        architecture = SIZES[size]
        self.spec = NetworkSpec(
            name=f"dinov2-{size}",
            size_multiple=PATCH,
            native=SizePolicy(architecture.native, "lower_bound", PATCH, "bicubic"),
            features={"tokens": architecture.width},
            license="Apache-2.0",
        )
        self.encoder = Encoder(architecture, taps=[architecture.depth - 1], pos_embed=pos_embed)
        if weights is not None:
            load_family(
                self.encoder,
                weights,
                component=f"dinov2/{size}",
                to_model=to_encoder,
                looks_like=lambda _, state: looks_like(state, SIZES),
                hint=lambda fit: (
                    f"It looks like DINOv2 {fit.size}: use dinov2/{fit.size}." if fit.size not in (None, size) else ""
                ),
            )
        self.freeze()

    def encode(self, x: Tensor) -> Mapping[str, Tensor]:
        """(B, 3, 14 h, 14 w) -> ``tokens`` (B, h w, C), rows first."""
        return {"tokens": self.encoder(x)[0]}
