"""What an image processor's settings mean in dadkit's words."""

from __future__ import annotations

import inspect
import math
from typing import Any, Literal

import torch
from torch import Tensor

from dadkit.interfaces import SizePolicy

__all__ = ["multiple", "post_process", "prepare", "size_policy", "statistics"]

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
    """The nearest that a :class:`SizePolicy` comes to the processor's resizing, for listings and for ``forward``.

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
    """The processor's own way back to the images' size.

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
