"""Which segment a pixel belongs to, and sums over segments.

Levels are powers of two, so coarser segments are unions of the finest ones (leaves) and the leaf decides all levels:
``leaf >> 1``, ``leaf >> 2``, and so on. Membership is this one formula, evaluated in the map's own dtype; another formula
would move pixels on an edge by one rounding, which changes a loss visibly.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.ops.reference.options import NormOptions, segment_count
from dadkit.ops.reference.order import at_fraction, at_share

__all__ = ["cell_index", "edges", "level_ids", "lookup", "segment_sum"]


def edges(ordered: Tensor, count: Tensor, options: NormOptions) -> Tensor:
    """Borders of the finest level.

    ``range``: lo + R k / K, where lo and lo + R are the two quantiles ``range_clip`` of the valid values.
    ``quantile``: the valid value at position floor(k (n - 1) / K) of the sorted ones. ``grid``: none.

    Args:
        ordered: (B, H*W) ascending values, the n valid ones first.
        count: (B,) int64, n.
        options: segments, partition, range_clip.

    Returns:
        (B, K + 1), or (B, 0) for ``grid``.
    """
    finest = max(options.segments)
    if options.partition == "grid":
        return ordered.new_empty(ordered.shape[0], 0)
    if options.partition == "quantile":
        return torch.stack([at_fraction(ordered, count, k, finest) for k in range(finest + 1)], dim=1)
    low, high = (at_share(ordered, count, share) for share in options.range_clip)
    width = high - low
    return torch.stack([low + width * k / finest for k in range(finest + 1)], dim=1)


def level_ids(target: Tensor, valid: Tensor, borders: Tensor, options: NormOptions) -> list[Tensor]:
    """Returns the segment of every pixel, for every level.

    Args:
        target: (B, H, W).
        valid: (B, H, W) bool.
        borders: answer of :func:`edges`.
        options: segments and partition.

    Returns:
        One int64 (B, H, W) per level: the segment's index, or the number of segments where the pixel is not valid.
    """
    finest = max(options.segments)
    if options.partition == "grid":
        row, column = (cell_index(side, finest, target.device) for side in target.shape[-2:])
    else:
        row, column = torch.zeros_like(target, dtype=torch.uint8), None
        for k in range(1, finest):
            border = borders[:, k, None, None]
            row = row + (target > border if options.partition == "quantile" else target >= border)
    ids = []
    for level in options.segments:
        shift = (finest // level).bit_length() - 1
        index = row >> shift if column is None else (row >> shift)[:, None] * level + (column >> shift)
        ids.append(torch.where(valid, index.long(), segment_count(level, options.partition)))
    return ids


def cell_index(side: int, cells: int, device: torch.device) -> Tensor:
    """(side,) int64: which of ``cells`` parts of a side a pixel is in; part k begins at floor(k * side / cells)."""
    position = torch.arange(side, device=device)
    index = torch.zeros_like(position)
    for k in range(1, cells):
        index = index + (position >= k * side // cells)
    return index


def segment_sum(x: Tensor, ids: Tensor, segments: int) -> Tensor:
    """(B, segments): the sum of ``x`` (B, H, W) over each segment.

    Row by row first: float32 sums over a whole map, one after the other, would lose three digits.
    """
    batch, height, _ = x.shape
    rows = x.new_zeros(batch, height, segments + 1).scatter_add(-1, ids, x)
    return rows.sum(1)[:, :segments]


def lookup(values: Tensor, ids: Tensor, outside: float = 0.0) -> Tensor:
    """(B, H, W): each pixel's entry of ``values`` (B, segments); ``outside`` where the pixel is not valid."""
    batch, height, _ = ids.shape
    padded = torch.cat([values, values.new_full((batch, 1), outside)], dim=1)
    return padded[:, None, :].expand(-1, height, -1).gather(-1, ids)
