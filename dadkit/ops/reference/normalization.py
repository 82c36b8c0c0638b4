"""Medians, normalised maps and the hybrid loss: the specification that every other implementation must meet.

All maps are (B, H, W), one floating dtype (float32 or float64), masks bool or None. Nothing here reads a value back to the
host. The functions that users call, with the full documentation, are in ``dadkit.losses``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.ops.reference import hdn, hybrid
from dadkit.ops.reference.options import DEFAULT, WHOLE_MAP, NormOptions, Reduction, TargetStats
from dadkit.ops.reference.order import in_order
from dadkit.ops.reference.reduction import reduce, sanitize
from dadkit.ops.reference.segments import level_ids

__all__ = [
    "hybrid_norm_loss",
    "l1_loss",
    "median_mad",
    "normalize",
    "pixel_loss",
    "segment_weights",
    "target_statistics",
]


def median_mad(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Lower median and mean absolute deviation about it, (B,) each; 0 and 0 where no pixel is valid. Gradient to ``x``."""
    x, _, valid, poison = sanitize(x, x, mask)
    stats = hybrid.whole_map_stats(x, valid, in_order(x, valid), detach_median=False)
    return stats.median[:, 0] * poison, stats.global_mad * poison


def target_statistics(target: Tensor, mask: Tensor | None = None, options: NormOptions = DEFAULT) -> TargetStats:
    """Returns the statistics of a target, to be kept and passed back as ``target_stats``."""
    _, target, valid, _ = sanitize(target.detach(), target, mask)
    statistics = hdn.target_stats if options.variant == "hdn" else hybrid.target_stats
    return statistics(target, valid, options)


def normalize(
    x: Tensor, mask: Tensor | None = None, options: NormOptions = WHOLE_MAP, *, reference: Tensor | None = None
) -> Tensor:
    """(B, L, H, W): N(x) for each of the L levels; 0 outside the mask. Gradient to ``x`` only."""
    x, reference, valid, poison = sanitize(x, x if reference is None else reference, mask)
    if options.variant == "hdn":
        levels = _hdn_levels(x, reference, valid, options)
    else:
        stats = hybrid.target_stats(reference, valid, options)
        ids = level_ids(reference, valid, stats.edges, options)
        own = hybrid.map_stats(x, valid, in_order(x, valid), ids, options)
        levels = list(hybrid.normalized_levels(x, ids, own, options))
    stacked = torch.stack(levels, dim=1) * poison[:, None, None, None]
    return torch.where(valid[:, None], stacked, 0)


def segment_weights(target: Tensor, mask: Tensor | None = None, options: NormOptions = DEFAULT) -> Tensor:
    """(B, L, H, W): the weight 1 / |U_i| of each level at each pixel; sums over L to 1 where a pixel takes part, else to 0."""
    _, target, valid, _ = sanitize(target.detach(), target, mask)
    statistics = hdn.target_stats if options.variant == "hdn" else hybrid.target_stats
    stats = statistics(target, valid, options)
    if options.variant == "dadkit":
        return torch.stack(list(hybrid.level_weights(level_ids(target, valid, stats.edges, options), stats, options)), dim=1)
    inside = [torch.stack(level).any(0) for level in hdn.memberships(target, valid, stats.edges, options)]
    weight = torch.stack(inside, dim=1).to(target.dtype)
    return weight / weight.sum(1, keepdim=True).clamp(min=1)


def hybrid_norm_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    options: NormOptions = DEFAULT,
    *,
    trim: float = 0.0,
    reduction: Reduction = "mean",
    target_stats: TargetStats | None = None,
) -> Tensor:
    """Returns the hybrid-normalised L1 loss; gradient to ``pred`` only."""
    loss, counted, poison = pixel_loss(pred, target, mask, options, target_stats)
    return reduce(loss, counted, poison, reduction=reduction, trim=trim)


def pixel_loss(
    pred: Tensor, target: Tensor, mask: Tensor | None, options: NormOptions, stats: TargetStats | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the per-pixel hybrid loss (B, H, W), the pixels that take part (B, H, W), and the poison factor (B,)."""
    pred, target, valid, poison = sanitize(pred, target, mask)
    function = hdn.pixel_loss if options.variant == "hdn" else hybrid.pixel_loss
    loss, counted = function(pred, target, valid, options, stats)
    return loss, counted | (valid & poison.isnan()[:, None, None]), poison


def l1_loss(
    pred: Tensor, target: Tensor, mask: Tensor | None = None, *, trim: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """|pred - target| as it is; gradient to ``pred`` only."""
    pred, target, valid, poison = sanitize(pred, target, mask)
    return reduce((pred - target).abs(), valid, poison, reduction=reduction, trim=trim)


def _hdn_levels(x: Tensor, reference: Tensor, valid: Tensor, options: NormOptions) -> list[Tensor]:
    """N(x) per level; 0 in no segment. A pixel that is in two segments of a level takes the upper one."""
    borders = hdn.target_stats(reference, valid, options).edges
    levels = []
    for masks in hdn.memberships(reference, valid, borders, options):
        answer = torch.zeros_like(x)
        for member in masks:
            _, median, mad = hdn.median_and_mad(x, member, options.detach_median)
            answer = torch.where(member, hdn.normalized(x, median, mad), answer)
        levels.append(answer)
    return levels
