"""The hybrid-normalised loss as people write it in plain PyTorch: what the fused operators are measured against.

All compute variant "dadkit"'s common case (range partition, no mask, no dropped segment): the same values, which is checked
before anything is measured.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["BASELINES", "eager_gradient_matching", "eager_local_global", "loop", "nanmedian", "sort"]


def _leaves(target: Tensor, finest: int) -> Tensor:
    low, high = target.flatten(1).amin(1), target.flatten(1).amax(1)
    leaf = torch.zeros_like(target, dtype=torch.int64)
    for k in range(1, finest):
        leaf = leaf + (target >= (low + (high - low) * k / finest)[:, None, None])
    return leaf


def loop(pred: Tensor, target: Tensor, segments: tuple[int, ...]) -> Tensor:
    """Loops over images and segments with boolean masks and ``median()``."""
    finest, total = max(segments), pred.new_zeros(())
    leaves = _leaves(target, finest)
    for p, d, leaf in zip(pred, target, leaves, strict=True):
        for level in segments:
            part = leaf // (finest // level)
            for k in range(level):
                x, y = p[part == k], d[part == k]
                if x.numel() == 0:
                    continue
                a, b = x - x.median(), y - y.median()
                total = total + (a / a.abs().mean() - b / b.abs().mean()).abs().sum() / p.numel()
    return total / (len(segments) * len(pred))


def nanmedian(pred: Tensor, target: Tensor, segments: tuple[int, ...]) -> Tensor:
    """All segments at once: (B, U, N) masks and ``nanmedian``, the structure of the published code."""
    finest = max(segments)
    leaf = _leaves(target, finest)
    members = torch.stack([(leaf // (finest // level)) == k for level in segments for k in range(level)], 1).flatten(2)
    count = members.sum(2, keepdim=True).clamp(min=1)

    def normalised(x: Tensor) -> Tensor:
        x = x.flatten(1)[:, None].expand(members.shape)
        median = torch.where(members, x, torch.nan).nanmedian(2, keepdim=True).values
        off = torch.where(members, x - median, 0)
        return off / (off.abs().sum(2, keepdim=True) / count).clamp(min=1e-12)

    difference = torch.where(members, (normalised(pred) - normalised(target)).abs(), 0)
    return difference.sum() / (len(segments) * pred.numel())


def sort(pred: Tensor, target: Tensor, segments: tuple[int, ...]) -> Tensor:
    """One sort per map, ranks within segments by cumulative sums: this project's reference."""
    from dadkit.ops import reference

    return reference.hybrid_norm_loss(pred, target, None, reference.NormOptions(segments))


BASELINES: dict[str, Callable[[Tensor, Tensor, tuple[int, ...]], Tensor]] = {"loop": loop, "nanmedian": nanmedian, "sort": sort}


def eager_local_global(pred: Tensor, target: Tensor, boxes: Tensor, segments: tuple[int, ...]) -> Tensor:
    """Sample every box, normalise per patch by the loop, average: the straightforward version."""
    _, height, width = pred.shape
    grid_h, grid_w = target.shape[2:]
    x0, y0, x1, y1 = (boxes[..., k, None] for k in range(4))
    x = x0 + (torch.arange(grid_w, device=pred.device) + 0.5) * (x1 - x0) / grid_w
    y = y0 + (torch.arange(grid_h, device=pred.device) + 0.5) * (y1 - y0) / grid_h
    patches = []
    for b in range(len(pred)):
        for n in range(boxes.shape[1]):
            grid = torch.stack(torch.meshgrid(2 * x[b, n] / width - 1, 2 * y[b, n] / height - 1, indexing="xy"), -1)
            patches.append(F.grid_sample(pred[b][None, None], grid[None], padding_mode="border", align_corners=False)[0])
    return loop(torch.cat(patches), target.flatten(0, 1), segments)


def eager_gradient_matching(pred: Tensor, target: Tensor) -> Tensor:
    """Both maps normalised by ``median()``, then the differences of the residual at four strides."""

    def normalised(x: Tensor) -> Tensor:
        off = x - x.flatten(1).median(1).values[:, None, None]
        return off / off.abs().mean((1, 2), keepdim=True)

    residual, total = normalised(pred) - normalised(target), pred.new_zeros(())
    for stride in (1, 2, 4, 8):
        r = residual[:, ::stride, ::stride]
        total = total + (r.diff(dim=1).abs().sum() + r.diff(dim=2).abs().sum()) / r.numel()
    return total
