"""Overlapping intervals that cover a line: one axis of the patch grid."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["cells_needed", "cover"]


def cells_needed(length: int, side: int, overlap: int) -> int:
    """Fewest intervals of ``side`` a that cover ``length`` L and overlap by v: max(2, ceil((L - v) / (a - v)))."""
    return max(2, math.ceil((length - overlap) / (side - overlap)))


def cover(length: int, side: int, overlap: int, cells: int, generator: torch.Generator) -> Tensor:
    """Where ``cells`` intervals of ``side`` begin so that they cover [0, length] and neighbours share at least ``overlap``.

    They are spread evenly, the first at 0 and the last at ``length - side``. The others are moved at random, by at most half of
    what their overlaps exceed ``overlap`` and half of the way to their neighbours, so that coverage, overlap and order hold
    whatever is drawn; the outer two must stay, or the border of the region would be left out.

    Args:
        length: the region's side L, in pixels.
        side: the patch's side a <= L.
        overlap: v < a, such that cells * a - (cells - 1) * v >= L.
        cells: number of intervals, at least 2.
        generator: draws the jitter: ``cells`` numbers whatever the sizes.

    Returns:
        (cells,) float64, ascending whole numbers.
    """
    even = torch.tensor([i * (length - side) // (cells - 1) for i in range(cells)], dtype=torch.float64)
    steps = even.diff()
    room = torch.minimum((side - overlap - steps.max()) / 2, steps.min() / 2).floor()
    jitter = ((2 * torch.rand(cells, generator=generator, dtype=torch.float64) - 1) * room).round()
    jitter[[0, -1]] = 0
    return even + jitter
