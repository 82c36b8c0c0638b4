"""Order statistics of masked maps: sorting, quantiles, and medians with a gradient that ties share evenly."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

__all__ = ["Ordered", "at_fraction", "at_share", "attach_median", "in_order", "lower_medians", "share_of"]

_PARTS = 1_000_000
"""Shares (quantiles, trim) are rounded to millionths, so that floor(share * n) is exact integer arithmetic everywhere."""


class Ordered(NamedTuple):
    """A map's valid values in ascending order, then +inf, and where each came from; both (B, H*W)."""

    values: Tensor
    position: Tensor


def in_order(x: Tensor, valid: Tensor) -> Ordered:
    """Sort each map of (B, H, W), valid pixels first. No gradient."""
    values, position = torch.where(valid, x.detach(), torch.inf).flatten(1).sort(dim=1)
    return Ordered(values, position)


def share_of(count: Tensor, share: float) -> Tensor:
    """floor(share * count) for int64 counts, exact: ``share`` counts in millionths."""
    return count * round(share * _PARTS) // _PARTS


def at_share(ordered: Tensor, count: Tensor, share: float) -> Tensor:
    """(B,): the valid value at position floor(share (n - 1)); 0 where n = 0. Share 0 is the minimum, 1 the maximum."""
    return _at(ordered, count, share_of(count - 1, share))


def at_fraction(ordered: Tensor, count: Tensor, k: int, parts: int) -> Tensor:
    """(B,): the valid value at position floor(k (n - 1) / parts); 0 where n = 0."""
    return _at(ordered, count, (count - 1) * k // parts)


def _at(ordered: Tensor, count: Tensor, position: Tensor) -> Tensor:
    value = ordered.gather(1, position.clamp(min=0)[:, None])[:, 0]
    return torch.where(count > 0, value, 0)


def lower_medians(ordered: Ordered, ids: Tensor, segments: int) -> tuple[Tensor, Tensor]:
    """Returns the lower median of each segment, 0 where it is empty, and its number of pixels (int64), both (B, segments). No
    gradient.

    Args:
        ordered: the sorted map.
        ids: (B, H, W) segment of every pixel, ``segments`` where it has none.
        segments: how many there are.
    """
    ordered_ids = ids.to(torch.uint8).flatten(1).gather(1, ordered.position)  # at most 65 values, and bytes compare fast
    last = ordered_ids.shape[1] - 1
    medians, counts = [], []
    for u in range(segments):
        rank = (ordered_ids == u).cumsum(1, dtype=torch.int32)  # 1, 2, … as the segment's pixels come by in order
        count = rank[:, -1:]
        position = torch.searchsorted(rank, (count + 1) // 2).clamp(max=last)  # the first place where the middle is reached
        medians.append(torch.where(count > 0, ordered.values.gather(1, position), 0))
        counts.append(count)
    return torch.cat(medians, dim=1), torch.cat(counts, dim=1).long()


def attach_median(median: Tensor, tied_sum: Tensor, ties: Tensor) -> Tensor:
    """Returns the median with its gradient: dm/dp_i = [p_i = m] / #ties, which no order of the pixels can change.

    ``torch.median(dim)`` would give the whole gradient to one pixel of its own choice.

    Args:
        median: the value, detached.
        tied_sum: the sum of x - x.detach() over the pixels equal to the median: 0, with a gradient.
        ties: how many those are.
    """
    return median + tied_sum / ties.clamp(min=1)
