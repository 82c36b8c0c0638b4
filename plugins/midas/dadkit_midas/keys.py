"""From the names in a file to ours, whichever of four layouts the file has; the names themselves tell which.

* official: ``pretrained.…`` and ``scratch.…``
* Hugging Face, on disk and in memory: ``dpt.…`` or ``backbone.…``, ``neck.…``, ``head.…``
* ours, of a trained student: ``backbone.…``, ``reassemble.…``, ``decoder.…``
* the backbone alone, with timm's names
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from dadkit.weights import Place, Rule, assemble, locate
from dadkit_midas.huggingface import huggingface_rules
from dadkit_midas.official import backbone_rules, official_rules
from dadkit_midas.sizes import SIZES, Size

__all__ = ["BACKBONE", "Layout", "layout", "looks_like", "places", "telling", "to_model"]

BACKBONE = "backbone."
"""Our parameters of the pre-trained part begin so; the others are the decoder's."""

Layout = Literal["official", "huggingface", "ours", "backbone"]


def layout(names: Iterable[str]) -> Layout:
    """Which layout a file of these names has."""
    starts = {name.partition(".")[0] for name in names}
    if starts & {"pretrained", "scratch"}:
        return "official"
    if "neck" in starts:
        return "huggingface"
    return "ours" if "decoder" in starts else "backbone"


def places(names: Iterable[str], size: Size) -> dict[str, Place | None]:
    """Where each name of a file belongs in this model; None for what takes no part in it."""
    names = list(names)
    rules = _rules(names, size)
    return {name: locate(name, rules) for name in names}


def to_model(state: Mapping[str, Tensor], size: Size) -> dict[str, Tensor]:
    """A state dict in any layout as one in ours. Result and errors as in :func:`dadkit.weights.assemble`."""
    return assemble(state, _rules(state, size))


def looks_like(file: Mapping[str, Tensor]) -> str | None:
    """The model that a file, in any layout, is of; None = none of them."""
    for name, size in SIZES.items():
        found = {place.name: file[source].shape for source, place in places(file, size).items() if place is not None}
        if all(found.get(BACKBONE + ours) == shape for ours, shape in telling(size).items()):
            return name
    return None


def telling(size: Size) -> dict[str, tuple[int, ...]]:
    """Parameters of the backbone with shapes that, together, only this model of the zoo has."""
    of = size.backbone
    match size.family:
        case "vit" | "hybrid":
            patch = (of["stages"][-1], 1, 1) if size.family == "hybrid" else (3, 16, 16)
            return {
                "patch_embed.proj.weight": (of["width"], *patch),
                "pos_embed": (1, 1 + of["grid"] ** 2, of["width"]),
                f"blocks.{of['depth'] - 1}.attn.proj.bias": (of["width"],),
            }
        case "beit":
            rows = (2 * of["grid"] - 1) ** 2 + 3
            return {f"blocks.{of['depth'] - 1}.attn.relative_position_bias_table": (rows, of["heads"])}
        case "swin":
            rows = (2 * of["window"] - 1) ** 2
            return {f"layers.2.blocks.{of['depths'][2] - 1}.attn.relative_position_bias_table": (rows, of["heads"][2])}
        case "swin2":
            return {f"layers.2.blocks.{of['depths'][2] - 1}.attn.logit_scale": (of["heads"][2], 1, 1)}
        case "next-vit":
            return {f"stages.2.blocks.{of['depths'][2] - 1}.norm2.weight": (size.channels[2],)}
        case "levit":
            return {"stem.conv4.linear.weight": (of["widths"][0], of["widths"][0] // 2, 3, 3)}
        case "resnext":
            group = 256 * of["base_width"] // 64
            return {f"layer3.{of['layers'][2] - 1}.conv2.weight": (group * of["cardinality"], group, 3, 3)}
        case "lite":
            return {"blocks.6.0.bn3.weight": (size.channels[-1],)}


def _rules(names: Iterable[str], size: Size) -> list[Rule]:
    match layout(names):
        case "official":
            return official_rules(size)
        case "huggingface":
            return huggingface_rules(size)
        case "ours":
            return []
        case "backbone":
            return backbone_rules()
