"""What is known about the families of depth models in transformers: what their answers mean, and the sizes they take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from dadkit.spaces import Space

__all__ = ["FAMILIES", "Family", "family_of"]

_STRIDE = 32  # of the coarsest level of the pyramids in DPT, ZoeDepth, GLPN


@dataclass(frozen=True)
class Family:
    """What a model's configuration tells.

    Attributes:
        space: the space of its answers; None = the configuration does not tell, so the user must.
        certain: False where models with other answers share the configuration, so that a user may say otherwise.
        why: for messages: what decides the space, or why nothing does.
        multiple: heights and widths that the network takes.
        side: the one side, in pixels, at which it runs, if there is only one.
    """

    space: Space | None
    certain: bool = False
    why: str = ""
    multiple: int = 1
    side: int | None = None


def family_of(config: Any) -> Family | None:
    """The family of a model's configuration; None for one that this adapter does not know."""
    describe = FAMILIES.get(config.model_type)
    return None if describe is None else describe(config)


def _depth_anything(config: Any) -> Family:
    if config.depth_estimation_type == "metric":
        return Family(Space.METRIC, certain=True, why="depth_estimation_type is 'metric'", multiple=config.patch_size)
    return Family(Space.DISPARITY, why="depth_estimation_type is 'relative'", multiple=config.patch_size)


def _prompt_depth_anything(config: Any) -> Family:
    return Family(
        None,
        why="it answers in the range of a depth prompt, which no image gives: depth up to scale and shift at best",
        multiple=config.patch_size,
    )


def _dpt(config: Any) -> Family:
    backbone = config.backbone_config
    kind = "vit" if backbone is None or config.is_hybrid else backbone.model_type
    if kind in ("vit", "beit", "swinv2"):
        return Family(Space.DISPARITY, why=f"DPT on {kind} is MiDaS", multiple=_STRIDE)
    return Family(None, why=f"DPT on {kind} is trained for disparity or for metres", multiple=_patch(backbone))


def _zoedepth(config: Any) -> Family:
    return Family(Space.METRIC, certain=True, why="ZoeDepth answers in metres", multiple=_STRIDE)


def _glpn(config: Any) -> Family:
    return Family(Space.METRIC, certain=True, why=f"GLPN answers in metres up to {config.max_depth}", multiple=_STRIDE)


def _depth_pro(config: Any) -> Family:
    # The patches of its three scales tile one size only.
    side = round(config.patch_size / min(config.scaled_images_ratios))
    if config.use_fov_model:
        return Family(Space.METRIC, certain=True, why="Depth Pro answers in metres by its field of view", side=side)
    return Family(None, why="without its field-of-view network Depth Pro's depth has an unknown scale", side=side)


def _tipsv2(config: Any) -> Family:
    return Family(
        Space.METRIC, certain=True, why="TIPSv2's depth head answers in metres", multiple=_patch(config.backbone_config)
    )


FAMILIES: Mapping[str, Callable[[Any], Family]] = MappingProxyType(
    {
        "depth_anything": _depth_anything,
        "depth_pro": _depth_pro,
        "dpt": _dpt,
        "glpn": _glpn,
        "prompt_depth_anything": _prompt_depth_anything,
        "tipsv2_dpt": _tipsv2,
        "zoedepth": _zoedepth,
    }
)
"""``model_type`` of a configuration -> what it tells. CHMv2 is left out: it answers with the height of canopies, not depth."""


def _patch(config: Any) -> int:
    size = getattr(config, "patch_size", 1)
    return int(size[0] if isinstance(size, list | tuple) else size)
