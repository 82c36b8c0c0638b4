"""One random square of an image: what the student sees, once."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["check_sides", "draw_integer", "draw_region"]


def draw_integer(low: int, high: int, generator: torch.Generator) -> int:
    """Uniform over low, low + 1, …, high. Draws even where low = high, so that later draws do not depend on the size."""
    return int(torch.randint(low, high + 1, (), generator=generator))


def draw_region(size: tuple[int, int], crop_min: int, crop_max: int | None, generator: torch.Generator) -> Tensor:
    """A square, its side uniform in [crop_min, shortest side], its place uniform among those inside the image.

    Where the shortest side S is below ``crop_min`` the side is S. ``crop_max``, if given, stands for S where S is larger.

    Returns:
        (4,) float64: x0, y0, x1, y1, whole numbers.
    """
    height, width = size
    largest = min(height, width) if crop_max is None else min(height, width, crop_max)
    side = draw_integer(min(crop_min, largest), largest, generator)
    x0 = draw_integer(0, width - side, generator)
    y0 = draw_integer(0, height - side, generator)
    return torch.tensor([x0, y0, x0 + side, y0 + side], dtype=torch.float64)


def check_sides(view_size: int, crop_min: int, crop_max: int | None) -> None:
    """Refuse sizes that mean nothing."""
    if view_size < 1 or crop_min < 1:
        raise ValueError(f"view_size and crop_min are pixels, at least 1; got {view_size} and {crop_min}")
    if crop_max is not None and crop_max < crop_min:
        raise ValueError(f"crop_max = {crop_max} is smaller than crop_min = {crop_min}")
