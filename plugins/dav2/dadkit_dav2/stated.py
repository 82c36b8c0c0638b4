"""What the makers of a file say beside its tensors: V1 or V2, relative or metric, up to which depth.

The tensors of all of these are alike, so a mistake would only show in wrong numbers. Three things may tell: the
``config.json`` of a Hugging Face folder, the names that the authors gave their files, and what training code saves beside the
tensors.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dadkit.weights import WeightFile, WeightsError, read_config
from dadkit_dav2.sizes import Size, Variant

__all__ = ["Stated", "check_stated", "stated"]

_DEPTHS = {"hypersim": 20.0, "vkitti": 80.0}


@dataclass(frozen=True)
class Stated:
    """What is said about a file; None = nothing.

    Attributes:
        by: who says it, for messages.
        version: ``"v1"`` or ``"v2"``.
        metric: whether the answers are metres.
        max_depth: metres at which they end.
    """

    by: str
    version: str | None = None
    metric: bool | None = None
    max_depth: float | None = None


def stated(weights: str | Path, file: WeightFile, size: Size) -> Stated | None:
    """What dadkit's own metadata say, or the ``config.json`` beside the weights, or their name; None if nothing does."""
    if str(file.card.get("component", "")).startswith("dav2/"):
        options, space = file.card.get("options", {}), file.card.get("space")
        return Stated("its own metadata", options.get("version", "v2"), space == "metric", options.get("max_depth"))
    if "d1" in (file.beside.get("previous_best") or {}):
        # The official training code, which trains metric models only.
        return Stated("the metrics in metres that its training saved beside it", metric=True)
    config = read_config(weights)
    if config is not None and config.get("model_type") == "depth_anything":
        return _by_config(config, size)
    name = re.split(r"[/\\]", str(weights))[-1]
    if match := re.fullmatch(r"depth_anything_v2_metric_(hypersim|vkitti)_vit[sbl]\.pth", name):
        return Stated(f"the name {name}", "v2", True, _DEPTHS[match[1]])
    if re.fullmatch(r"depth_anything_v2_vit[sblg]\.pth", name):
        return Stated(f"the name {name}", "v2", False)
    if re.fullmatch(r"depth_anything_vit[sbl]14\.pth", name):
        return Stated(f"the name {name}", "v1", False)
    return None


def check_stated(said: Stated | None, variant: Variant) -> None:
    """Refuse options that contradict what is said about the file.

    Args:
        said: from :func:`stated`.
        variant: what the options say.

    Raises:
        WeightsError: they contradict it; the message says what to write instead.
    """
    if said is None:
        return
    name, version, max_depth = variant.name, variant.version, variant.max_depth
    base = name.removesuffix("-metric")
    wrong = []
    if said.version not in (None, version):
        wrong.append(f"it is {said.version.upper()}: write version: {said.version}")
    if said.metric is True and max_depth is None:
        far = "that of its training" if said.max_depth is None else f"{said.max_depth:g}"
        wrong.append(f"it answers in metres: use {base}-metric with max_depth: {far}")
    if said.metric is False and max_depth is not None:
        wrong.append(f"its answers are relative, not metres: use {base}, or init: encoder to train a metric head")
    if said.metric and max_depth is not None and said.max_depth not in (None, max_depth):
        wrong.append(f"it was made with max_depth: {said.max_depth:g}, not {max_depth:g}")
    if wrong:
        raise WeightsError(f"{name}: by {said.by}, {'; '.join(wrong)}")


def _by_config(config: Mapping[str, Any], size: Size) -> Stated:
    backbone = config.get("backbone_config") or {}
    taps = backbone.get("out_indices") or [_stage(name) for name in backbone.get("out_features") or []]
    metric = config.get("depth_estimation_type", "relative") == "metric"
    return Stated("its config.json", _version(taps, size), metric, float(config["max_depth"]) if metric else None)


def _version(taps: Sequence[int], size: Size) -> str | None:
    """transformers counts the stem as 0."""
    found = tuple(tap - 1 for tap in taps)
    return next((version for version in ("v2", "v1") if found == size.tapped(version)), None)


def _stage(name: str) -> int:
    return int(name.removeprefix("stage")) if name.removeprefix("stage").isdigit() else -1
