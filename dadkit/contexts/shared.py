"""The shared context: one random square region, the same for student and teacher."""

from __future__ import annotations

import torch

from dadkit.contexts.region import check_sides, draw_region
from dadkit.interfaces import Contexts

__all__ = ["Shared"]


class Shared:
    """One random square, seen by student and teacher at one size; no patches (Distill Any Depth, section 3.2 and 4.1).

    The side is uniform in [crop_min, shortest side of the image]; an image whose shortest side S is smaller gives side S.

    Args:
        view_size: side in pixels at which both see the region. 560: the paper, 4.1.
        crop_min: smallest side of a region, in pixels of the image. 644: the paper, 4.1.
        crop_max: largest side of a region; None is the image's shortest side, as in the paper.

    Raises:
        ValueError: a size below 1, or crop_max < crop_min.
    """

    def __init__(self, view_size: int = 560, crop_min: int = 644, crop_max: int | None = None) -> None:
        check_sides(view_size, crop_min, crop_max)
        self.view_size, self.crop_min, self.crop_max = view_size, crop_min, crop_max

    def __call__(self, size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """Draw contexts for an image of ``size`` = (height, width)."""
        view = (self.view_size, self.view_size)
        region = draw_region(size, self.crop_min, self.crop_max, generator)
        return Contexts(region, view, torch.zeros(0, 4, dtype=torch.float64), view)
