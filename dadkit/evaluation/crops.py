"""The crops of the benchmarks, as fractions of the frame, exactly as their public code rounds them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dadkit.data.sample import Sample
from dadkit.errors import DataError

__all__ = ["CROPS", "FRAMES", "Crop", "cut_frame", "keep_inside"]


@dataclass(frozen=True)
class Crop:
    """Rows [top, bottom) and columns [left, right) as fractions; ``int`` of fraction * side, as the public code does."""

    top: float
    bottom: float
    left: float
    right: float
    meaning: str

    def box(self, height: int, width: int) -> tuple[int, int, int, int]:
        """top, bottom, left, right in pixels."""
        # 1e-6: 45/480 of 480 must be 45 and not 44
        rows = (int(self.top * height + 1e-6), int(self.bottom * height + 1e-6))
        return (*rows, int(self.left * width + 1e-6), int(self.right * width + 1e-6))


CROPS: Mapping[str, Crop] = {
    "none": Crop(0, 1, 0, 1, "the whole frame"),
    "eigen-nyu": Crop(45 / 480, 471 / 480, 41 / 640, 601 / 640, "Eigen's crop of NYUv2: rows 45 to 470, columns 41 to 600"),
    "eigen-kitti": Crop(0.3324324, 0.91351351, 0.0359477, 0.96405229, "Eigen's crop of KITTI"),
    "garg": Crop(0.40810811, 0.99189189, 0.03594771, 0.96405229, "Garg's crop of KITTI"),
    "centre": Crop(0.25, 0.75, 0.25, 0.75, "the central half of each side"),
}
"""Name -> which pixels are measured; the model still sees the whole frame."""

FRAMES: Mapping[str, tuple[int, int] | None] = {"none": None, "kitti-benchmark": (352, 1216)}
"""Name -> (height, width) cut from the bottom centre *before* the model sees the image."""


def keep_inside(valid: Tensor, name: str) -> Tensor:
    """``valid`` (…, H, W), False outside the crop."""
    if name == "none":
        return valid
    top, bottom, left, right = CROPS[name].box(*valid.shape[-2:])
    inside = torch.zeros_like(valid)
    inside[..., top:bottom, left:right] = True
    return valid & inside


def cut_frame(sample: Sample, name: str) -> Sample:
    """The bottom centre of a sample, of the frame's size; intrinsics move along.

    Raises:
        DataError: the image is smaller than the frame.
    """
    size = FRAMES[name]
    if size is None:
        return sample
    height, width = sample.image.shape[-2:]
    top, left = height - size[0], (width - size[1]) // 2
    if top < 0 or left < 0:
        raise DataError(f"'{sample.key}' is {width} x {height}, smaller than the frame '{name}' of {size[1]} x {size[0]}")
    box = (..., slice(top, top + size[0]), slice(left, left + size[1]))
    moved = sample.intrinsics
    if moved is not None:
        moved = moved.clone()
        moved[0, 2] -= left
        moved[1, 2] -= top
    return replace(
        sample,
        image=sample.image[box],
        depth=None if sample.depth is None else sample.depth[box],
        valid=None if sample.valid is None else sample.valid[box],
        intrinsics=moved,
    )
