"""``variant="hdn"``: the published code of Hierarchical Depth Normalization, with its edges left as they are.

For a segment u of n pixels, with t the lower median: s = sum |x - t| / (n + 1), N_u(x) = (x - t) / (s + 1e-6). Segments are
half open, so the largest pixel is usually in none; it adds 0 and still counts in the mean. In ``range`` the upper border is
edge + 1e-30: where an edge is 0, zeros are in two segments of one level and the largest pixel may belong to the top one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.ops.reference.hybrid import whole_map_stats
from dadkit.ops.reference.options import NormOptions, TargetStats
from dadkit.ops.reference.order import attach_median, in_order
from dadkit.ops.reference.segments import cell_index, edges

__all__ = ["EPSILON", "median_and_mad", "memberships", "normalized", "pixel_loss", "target_stats"]

EPSILON = 1e-6


def target_stats(target: Tensor, valid: Tensor, options: NormOptions) -> TargetStats:
    """Edges, counts, medians and deviations of a target (B, H, W) that is 0 outside ``valid``."""
    ordered = in_order(target, valid)
    borders = _linear_quantiles(ordered.values, valid, options) if options.partition == "quantile" else None
    if borders is None:
        borders = edges(ordered.values, valid.sum((1, 2)), options)
    members = [m for level in memberships(target, valid, borders, options) for m in level]
    statistics = [median_and_mad(target, m, options.detach_median) for m in members]
    count, median, mad = (torch.stack(column, dim=1) for column in zip(*statistics, strict=True))
    whole = whole_map_stats(target, valid, ordered, options.detach_median)
    return TargetStats(borders, count, median, mad, whole.global_mad, whole.flat)


def memberships(target: Tensor, valid: Tensor, borders: Tensor, options: NormOptions) -> list[list[Tensor]]:
    """Per level, a bool mask (B, H, W) for each segment."""
    finest = max(options.segments)
    levels = []
    for level in options.segments:
        step = finest // level
        if options.partition == "grid":
            row, column = (cell_index(side, level, target.device) for side in target.shape[-2:])
            cell = row[:, None] * level + column
            levels.append([valid & (cell == k) for k in range(level * level)])
            continue
        above = 1e-30 if options.partition == "range" else 0.0
        masks = []
        for k in range(level):
            low, high = borders[:, k * step, None, None], borders[:, (k + 1) * step, None, None]
            masks.append(valid & (target >= low) & (target < high + above))
        levels.append(masks)
    return levels


def normalized(x: Tensor, median: Tensor, mad: Tensor) -> Tensor:
    """N_u(x) everywhere, for one segment's (B,) median and deviation."""
    return (x - median[:, None, None]) / (mad[:, None, None] + EPSILON)


def pixel_loss(
    pred: Tensor, target: Tensor, valid: Tensor, options: NormOptions, stats: TargetStats | None
) -> tuple[Tensor, Tensor]:
    """Returns the loss of each pixel and which pixels count, both (B, H, W); arguments as in ``hybrid.pixel_loss``."""
    if stats is None:
        stats = target_stats(target, valid, options)
    loss, number = torch.zeros_like(pred), torch.zeros_like(pred)
    members = [m for level in memberships(target, valid, stats.edges, options) for m in level]
    for u, member in enumerate(members):
        _, median, mad = median_and_mad(pred, member, options.detach_median)
        difference = normalized(pred, median, mad) - normalized(target, stats.median[:, u], stats.mad[:, u])
        loss = loss + torch.where(member, difference.abs(), 0)
        number = number + member
    return loss / number.clamp(min=1), valid


def median_and_mad(x: Tensor, member: Tensor, detach_median: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Count, lower median and sum |x - t| / (n + 1) of the pixels in ``member``, (B,) each."""
    count = member.sum((1, 2))
    value = torch.where(member, x.detach(), torch.nan).flatten(1).nanmedian(dim=1).values
    median = torch.where(count > 0, value, 0)
    if x.requires_grad and not detach_median:
        tied = member & (x == median[:, None, None])
        median = attach_median(median, torch.where(tied, x - x.detach(), 0).sum((1, 2)), tied.sum((1, 2)))
    deviation = torch.where(member, (x - median[:, None, None]).abs(), 0).sum((1, 2))
    return count, median, deviation / (count + 1)


def _linear_quantiles(ordered: Tensor, valid: Tensor, options: NormOptions) -> Tensor:
    """(B, K + 1): interpolated quantiles k / K of the valid values, as ``torch.nanquantile`` computes them, of any length."""
    finest = max(options.segments)
    count = valid.sum((1, 2))
    borders = []
    for k in range(finest + 1):
        rank = (k / finest) * (count - 1).clamp(min=0).to(ordered.dtype)
        below, above = rank.floor().long(), rank.ceil().long()
        low, high = (ordered.gather(1, index[:, None])[:, 0] for index in (below, above))
        borders.append(torch.where(count > 0, torch.lerp(low, high, rank - below), 0))
    return torch.stack(borders, dim=1)
