"""The default variant: hybrid normalisation with closed top segments, dropped flat segments and a floored denominator.

For a segment u of n pixels, with t the lower median and s = mean |x - t|:

    N_u(x) = (x - t) / max(s, mad_floor * s_g),    s_g = the same deviation of the whole map.

A segment of a level finer than 1 is kept iff n >= min_pixels and s_u(target) >= mad_floor * s_g(target); both tests read the
target only. Without them a flat target segment (a sky of zeros) would blow the student's noise up to 1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from dadkit.ops.reference.options import NormOptions, TargetStats, segment_count
from dadkit.ops.reference.order import Ordered, attach_median, in_order, lower_medians
from dadkit.ops.reference.segments import edges, level_ids, lookup, segment_sum

__all__ = [
    "MapStats",
    "is_flat",
    "level_weights",
    "map_stats",
    "normalized_levels",
    "pixel_loss",
    "target_stats",
    "whole_map_stats",
]


class MapStats(NamedTuple):
    """Statistics of one map on given segments; the fields are those of ``TargetStats``, with gradients if the map has any."""

    count: Tensor  # type: ignore[assignment]  # hides tuple.count
    median: Tensor
    mad: Tensor
    global_mad: Tensor
    flat: Tensor


def target_stats(target: Tensor, valid: Tensor, options: NormOptions) -> TargetStats:
    """Edges, counts, medians and deviations of a target (B, H, W) that is 0 outside ``valid``."""
    ordered = in_order(target, valid)
    borders = edges(ordered.values, valid.sum((1, 2)), options)
    ids = level_ids(target, valid, borders, options)
    return TargetStats(borders, *map_stats(target, valid, ordered, ids, options))


def map_stats(x: Tensor, valid: Tensor, ordered: Ordered, ids: list[Tensor], options: NormOptions) -> MapStats:
    """Statistics of each segment of ``x`` (B, H, W), which is 0 outside ``valid``, and of the whole map."""
    whole = whole_map_stats(x, valid, ordered, options.detach_median)
    levels = []
    for level, i in zip(options.segments, ids, strict=True):
        if level == 1:
            levels.append((whole.count, whole.median, whole.mad))
        else:
            levels.append(_segment_stats(x, i, segment_count(level, options.partition), ordered, options.detach_median))
    count, median, mad = (torch.cat(column, dim=1) for column in zip(*levels, strict=True))
    return MapStats(count, median, mad, whole.global_mad, whole.flat)


def whole_map_stats(x: Tensor, valid: Tensor, ordered: Ordered, detach_median: bool) -> MapStats:
    """Returns the same for the whole map as one segment. A map without a valid pixel is flat, its median and
    deviation are 0.
    """
    count, median, mad = _segment_stats(x, torch.where(valid, 0, 1), 1, ordered, detach_median)
    return MapStats(count, median, mad, mad[:, 0], is_flat(x, mad[:, 0]))


def is_flat(x: Tensor, mad: Tensor) -> Tensor:
    """(B,) bool: the deviation is rounding noise, mad <= 8 eps max(|x|, 1e-30)."""
    largest = x.detach().abs().amax((1, 2)).clamp(min=1e-30)
    return mad.detach() <= 8 * torch.finfo(x.dtype).eps * largest


def normalized_levels(x: Tensor, ids: list[Tensor], stats: MapStats | TargetStats, options: NormOptions) -> Iterator[Tensor]:
    """N(x) per level, (B, H, W) each; 0 for flat maps and outside the mask."""
    floor = options.mad_floor * stats.global_mad[:, None]
    flat = stats.flat[:, None]
    for i, median, mad in zip(ids, _by_level(stats.median, options), _by_level(stats.mad, options), strict=True):
        scale = torch.where(flat, torch.inf, torch.where(mad < floor, floor, mad))  # x / inf is 0, and so is its gradient
        yield (x - lookup(median, i)) / lookup(scale, i, outside=1.0)


def level_weights(ids: list[Tensor], stats: TargetStats, options: NormOptions) -> Iterator[Tensor]:
    """1 / |U_i| on kept segments, else 0; per level (B, H, W)."""
    floor = options.mad_floor * stats.global_mad[:, None]
    levels = zip(options.segments, ids, _by_level(stats.count, options), _by_level(stats.mad, options), strict=True)
    kept = []
    for level, i, count, mad in levels:
        keep = torch.ones_like(count, dtype=torch.bool) if level == 1 else (count >= options.min_pixels) & (mad >= floor)
        kept.append(lookup((keep & ~stats.flat[:, None]).to(mad.dtype), i))
    number = sum(kept, torch.zeros_like(kept[0])).clamp(min=1)
    return (keep / number for keep in kept)


def pixel_loss(
    pred: Tensor, target: Tensor, valid: Tensor, options: NormOptions, stats: TargetStats | None
) -> tuple[Tensor, Tensor]:
    """Returns the loss of each pixel and which pixels take part, both (B, H, W).

    Args:
        pred: gets the gradient; 0 outside ``valid``.
        target: 0 outside ``valid``.
        valid: bool.
        options: how to normalise.
        stats: the target's statistics if they are at hand.
    """
    if stats is None:
        stats = target_stats(target, valid, options)
    ids = level_ids(target, valid, stats.edges, options)
    pred_stats = map_stats(pred, valid, in_order(pred, valid), ids, options)
    loss, total_weight = torch.zeros_like(pred), torch.zeros_like(pred)
    levels = zip(
        normalized_levels(pred, ids, pred_stats, options),
        normalized_levels(target, ids, stats, options),
        level_weights(ids, stats, options),
        strict=True,
    )
    for pred_n, target_n, weight in levels:
        loss = loss + weight * (pred_n - target_n).abs()
        total_weight = total_weight + weight
    return loss, total_weight > 0


def _segment_stats(
    x: Tensor, ids: Tensor, segments: int, ordered: Ordered, detach_median: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, lower median and mean absolute deviation of each segment, (B, segments) each."""
    median, count = lower_medians(ordered, ids, segments)
    if x.requires_grad and not detach_median:
        tied = (x == lookup(median, ids)) & (ids < segments)
        tied_sum = segment_sum(torch.where(tied, x - x.detach(), 0), ids, segments)
        median = attach_median(median, tied_sum, segment_sum(tied.to(x.dtype), ids, segments))
    deviation = segment_sum((x - lookup(median, ids)).abs(), ids, segments)
    return count, median, deviation / count.clamp(min=1)


def _by_level(per_segment: Tensor, options: NormOptions) -> tuple[Tensor, ...]:
    """Cut (B, U) into the levels of ``options.segments``."""
    return torch.split(per_segment, [segment_count(level, options.partition) for level in options.segments], dim=1)
