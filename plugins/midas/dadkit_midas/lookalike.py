"""Which model a file holds, for the message about a file of another one."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dadkit_midas.keys import BACKBONE, places
from dadkit_midas.sizes import SIZES, Size

__all__ = ["looks_like", "telling"]


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


def looks_like(file: Mapping[str, Tensor]) -> str | None:
    """The model that a file, in any layout, is of; None = none of them."""
    for name, size in SIZES.items():
        found = {place.name: file[source].shape for source, place in places(file, size).items() if place is not None}
        if all(found.get(BACKBONE + ours) == shape for ours, shape in telling(size).items()):
            return name
    return None
