"""The families of depth models in transformers: what their answers mean, their sizes, and their image processors' settings."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Literal

import torch
from torch import Tensor

from dadkit.interfaces import SizePolicy
from dadkit.spaces import Space

__all__ = [
    "FAMILIES",
    "Family",
    "family_of",
    "multiple",
    "post_process",
    "prepare",
    "size_policy",
    "statistics",
]


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
        camera: True if a known focal length takes the place of its own estimate.
        refusal: why it is no teacher of depth, if it is none.
    """

    space: Space | None
    certain: bool = False
    why: str = ""
    multiple: int = 1
    side: int | None = None
    camera: bool = False
    refusal: str = ""


def family_of(config: Any) -> Family | None:
    """Returns the family of a model's configuration; None for one that this adapter does not know."""
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
        return Family(
            Space.METRIC, certain=True, why="Depth Pro answers in metres by its field of view", side=side, camera=True
        )
    return Family(None, why="without its field-of-view network Depth Pro's depth has an unknown scale", side=side)


def _chmv2(config: Any) -> Family:
    return Family(None, refusal="it answers with the height of trees above the ground, seen from above, which is no depth")


def _tipsv2(config: Any) -> Family:
    return Family(
        Space.METRIC, certain=True, why="TIPSv2's depth head answers in metres", multiple=_patch(config.backbone_config)
    )


FAMILIES: Mapping[str, Callable[[Any], Family]] = MappingProxyType(
    {
        "chmv2": _chmv2,
        "depth_anything": _depth_anything,
        "depth_pro": _depth_pro,
        "dpt": _dpt,
        "glpn": _glpn,
        "prompt_depth_anything": _prompt_depth_anything,
        "tipsv2_dpt": _tipsv2,
        "zoedepth": _zoedepth,
    }
)
"""``model_type`` of a configuration -> what it tells."""


def _patch(config: Any) -> int:
    size = getattr(config, "patch_size", 1)
    return int(size[0] if isinstance(size, list | tuple) else size)


_BYTE = 255.0
_BILINEAR = 2  # PIL's number


def statistics(processor: Any) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """(mean, std) of the network's input, for images in [0, 1]: the processor's own are for what its rescaling gives."""
    scale = _BYTE * processor.rescale_factor if getattr(processor, "do_rescale", True) else _BYTE
    mean, std = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    if getattr(processor, "do_normalize", None):
        mean, std = processor.image_mean, processor.image_std
    return tuple(m / scale for m in mean), tuple(s / scale for s in std)  # type: ignore[return-value]


def multiple(processor: Any) -> int:
    """Of what the processor makes heights and widths multiples; 1 if it does not."""
    values = (getattr(processor, name, None) for name in ("ensure_multiple_of", "size_divisor"))
    return math.lcm(*(int(value) for value in values if value and value >= 1))


def size_policy(processor: Any, multiple: int) -> SizePolicy:
    """Returns the nearest that a :class:`SizePolicy` comes to the processor's resizing, for listings and for ``forward``.

    ``predict`` runs the processor itself.
    """
    size = getattr(processor, "size", None) or {}
    side = size.get("height") or size.get("shortest_edge")
    mode: Literal["minimal", "exact"] = "minimal" if getattr(processor, "keep_aspect_ratio", False) else "exact"
    bilinear = getattr(processor, "resample", _BILINEAR) == _BILINEAR
    return SizePolicy(side, mode, multiple, "bilinear" if bilinear else "bicubic", antialias=True)


def prepare(processor: Any, images: Tensor) -> Tensor:
    """(B, 3, H, W) in [0, 1] -> the network's input (B, 3, h, w), by the processor itself.

    It gets pictures of 8 bits, which is what it is made for: one that resizes rounds to them again.
    """
    from PIL import Image

    arrays = images.mul(_BYTE).round().clamp(0, _BYTE).to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
    pixels: Tensor = processor(images=[Image.fromarray(array) for array in arrays], return_tensors="pt")["pixel_values"]
    return pixels.to(images.device)


def post_process(processor: Any, outputs: Any, size: tuple[int, int]) -> tuple[Tensor, Tensor | None]:
    """Resizes a map to the images' size in the processor's own way.

    Args:
        processor: the image processor.
        outputs: what the model answered.
        size: (height, width) of the images.

    Returns:
        Depth (B, 1, H, W), and focal lengths (B,) in pixels of the images if the model gives them.
    """
    own = getattr(processor, "post_process_depth_estimation", None)
    if own is None:
        depth = outputs.predicted_depth[:, None].float()
        return torch.nn.functional.interpolate(depth, size, mode="bicubic", align_corners=False), None
    sizes = [size] * len(outputs.predicted_depth)
    more = {"source_sizes": sizes} if "source_sizes" in inspect.signature(own).parameters else {}  # where padding is taken off
    answers = own(outputs, target_sizes=sizes, **more)
    depth = torch.stack([answer["predicted_depth"].reshape(1, *size) for answer in answers]).float()
    focal = [answer.get("focal_length") for answer in answers]
    return depth, None if focal[0] is None else torch.stack([value.reshape(()) for value in focal]).float()
