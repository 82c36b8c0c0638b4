"""Multi-scale gradient matching."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.ops.reference.hybrid import normalized_levels, whole_map_stats
from dadkit.ops.reference.options import WHOLE_MAP, Reduction
from dadkit.ops.reference.order import in_order
from dadkit.ops.reference.reduction import average, over_images, sanitize

__all__ = ["gradient_matching_loss"]


def gradient_matching_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    scales: int = 4,
    normalize: bool = True,
    reduction: Reduction = "mean",
) -> Tensor:
    """Absolute forward differences of the residual at strides 1, 2, 4, …; gradient to ``pred`` only."""
    pred, target, valid, poison = sanitize(pred, target, mask)
    counted = valid
    if normalize:
        pred, _ = _normalized(pred, valid)
        target, flat = _normalized(target, valid)
        counted = valid & ~flat[:, None, None]
    residual = pred - target
    strides = [2**k for k in range(scales)]
    steps = [_differences(residual[:, ::s, ::s], counted[:, ::s, ::s]) for s in strides]
    numbers = torch.stack([counted[:, ::s, ::s].sum((1, 2)) for s in strides])  # (scales, B)
    if reduction == "none":
        pixels = torch.zeros_like(residual)
        for stride, step, number in zip(strides, steps, numbers, strict=True):
            # So that the map's mean over the counted pixels is the image's loss.
            share = numbers[0].to(step.dtype) / number.clamp(min=1)
            pixels[:, ::stride, ::stride] += step * share[:, None, None]
        return torch.where(counted | (valid & poison.isnan()[:, None, None]), pixels * poison[:, None, None], 0)
    return reduce_scales(torch.stack([step.sum((1, 2)) for step in steps]) * poison, numbers, reduction)


def reduce_scales(totals: Tensor, numbers: Tensor, reduction: Reduction) -> Tensor:
    """As ``reduction.reduce_sums``, of sums (scales, B), each scale with its own mean."""
    if reduction == "pixel":
        return average(totals.sum(1), numbers.sum(1)).sum()
    return over_images(average(totals, numbers).sum(0), reduction)


def _normalized(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """N(x) of whole maps (B, H, W), and which of them are flat (B,)."""
    stats = whole_map_stats(x, valid, in_order(x, valid), detach_median=False)
    (normalized,) = normalized_levels(x, [torch.where(valid, 0, 1)], stats, WHOLE_MAP)
    return normalized, stats.flat


def _differences(residual: Tensor, valid: Tensor) -> Tensor:
    """(B, h, w): |right neighbour - this| + |lower neighbour - this|, each where both pixels are valid, else 0."""
    across = torch.where(valid[:, :, 1:] & valid[:, :, :-1], residual.diff(dim=2).abs(), 0)
    down = torch.where(valid[:, 1:] & valid[:, :-1], residual.diff(dim=1).abs(), 0)
    return F.pad(across, (0, 1)) + F.pad(down, (0, 0, 0, 1))
