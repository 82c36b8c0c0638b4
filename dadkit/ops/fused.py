"""The fused operators behind the names and signatures of ``dadkit.ops.reference``, which specifies what they answer.

Maps are (B, H, W), one dtype (float32 or float64), as there; on CUDA the losses also take maps of half precision, each of its
own, and compute in float32. Importing this file never fails: :func:`why_not` says whether the
compiled library is there and takes given tensors.
"""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.ops.autograd import GradientMatching, HybridNorm, MedianMad, Normalize, gives_means, hybrid_mean, matching_mean
from dadkit.ops.library import cannot_launch, codes, devices, load_error, operators
from dadkit.ops.reference.gradient import reduce_scales
from dadkit.ops.reference.hybrid import is_flat
from dadkit.ops.reference.local_global import all_touched, legal_boxes, reduce_patch_sums, reduce_patches
from dadkit.ops.reference.options import DEFAULT, WHOLE_MAP, NormOptions, Reduction, TargetStats
from dadkit.ops.reference.order import share_of
from dadkit.ops.reference.reduction import reduce, reduce_sums
from dadkit.ops.verdicts import allowed

__all__ = [
    "DEVICES",
    "gradient_matching_loss",
    "hybrid_norm_loss",
    "local_global_loss",
    "median_mad",
    "normalize",
    "proven",
    "target_statistics",
    "why_not",
]

_ERROR = load_error()

HALF = frozenset({torch.float16, torch.bfloat16})
"""The dtypes of half precision."""

DEVICES = devices()
"""The types of device that the operators are compiled for."""


def why_not(*tensors: Tensor) -> str | None:
    """Returns why the fused operators cannot take these tensors; None if they can."""
    if _ERROR is not None:
        return _ERROR
    for x in tensors:
        read = {torch.float32, torch.float64} | (HALF if x.is_cuda else frozenset())
        if x.is_floating_point() and x.dtype not in read:
            return f"they compute in float32 or float64, not in {x.dtype} (dadkit.losses converts half precision)"
        if x.device.type not in DEVICES:
            return f"they are not built for {x.device.type} in this installation"
        if x.device.type == "cuda" and (reason := cannot_launch(x.device.index or 0)) is not None:
            return reason
    return None


def proven(*tensors: Tensor) -> bool:
    """Returns True if ``backend="auto"`` may take the fused operators.

    On the CPU the project's tests have shown that they are right; on a GPU the self-check of this very machine must have passed
    (:mod:`dadkit.ops.verdicts`).
    """
    return all(x.device.type != "cuda" or allowed(x.device.index or 0) for x in tensors)


def median_mad(x: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Lower median and mean absolute deviation about it, (B,) each. Gradient to ``x``."""
    median, mad, _ = MedianMad.apply(x.contiguous(), _contiguous(mask))
    return median, mad


def target_statistics(target: Tensor, mask: Tensor | None = None, options: NormOptions = DEFAULT) -> TargetStats:
    """Returns the statistics of a target, to be kept and passed back as ``target_stats``."""
    target, mask = target.detach().contiguous(), _contiguous(mask)
    borders = _borders(target, mask, options)
    answer = operators().segment_statistics(target, mask, borders, codes(options))
    edges, count, median, mad, global_mad, flat = answer
    if options.variant == "hdn":  # its loss does not need the whole map's deviation, but the statistics hold it
        _, global_mad, _ = operators().median_mad_forward(target, mask)
        flat = is_flat(target if mask is None else torch.where(mask, target, 0), global_mad)
    return TargetStats(edges, count, median, mad, global_mad, flat)


def normalize(
    x: Tensor, mask: Tensor | None = None, options: NormOptions = WHOLE_MAP, *, reference: Tensor | None = None
) -> Tensor:
    """(B, L, H, W): N(x) for each of the L levels; 0 outside the mask. Gradient to ``x`` only."""
    x, mask = x.contiguous(), _contiguous(mask)
    reference = (x if reference is None else reference).detach().contiguous()
    normalized: Tensor = Normalize.apply(x, mask, reference, _borders(reference, mask, options), options)[0]
    return normalized


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
    pred, target, mask = pred.contiguous(), _constant(target), _contiguous(mask)
    per_pixel = reduction == "none" or trim > 0
    given = _given(target, mask, options, target_stats)
    if reduction == "mean" and not per_pixel and gives_means(pred):
        return hybrid_mean(pred, target, mask, given, options)
    total, number, losses, counted, _ = HybridNorm.apply(pred, target, None, mask, *_six(given), options, per_pixel)
    if per_pixel:
        return reduce(losses, counted, _poison(total), reduction=reduction, trim=trim)
    return reduce_sums(total, number, reduction)


def local_global_loss(
    pred: Tensor,
    target: Tensor,
    boxes: Tensor,
    mask: Tensor | None = None,
    options: NormOptions = DEFAULT,
    *,
    pred_mask: Tensor | None = None,
    trim: float = 0.0,
    reduction: Reduction = "mean",
    target_stats: TargetStats | None = None,
) -> Tensor:
    """Returns the loss of each patch (B, N, h, w) against its box of ``pred`` (B, H, W); gradient to ``pred`` only."""
    computed = torch.float64 if pred.dtype == torch.float64 else torch.float32
    target, boxes = target.detach().contiguous(), boxes.detach().to(computed).contiguous()
    present, legal = legal_boxes(boxes)
    if pred_mask is not None:
        touched = all_touched(pred_mask, legal, (target.shape[2], target.shape[3]))
        mask = touched if mask is None else mask & touched
        pred = torch.where(pred_mask, pred, 0)
    pred, mask = pred.contiguous(), _contiguous(mask)
    per_pixel = reduction == "none" or trim > 0
    flat_target, flat_mask = target.flatten(0, 1), None if mask is None else mask.flatten(0, 1)
    given = _given(flat_target, flat_mask, options, target_stats)
    total, number, losses, counted, _ = HybridNorm.apply(pred, target, boxes, mask, *_six(given), options, per_pixel)
    if per_pixel:
        poison = _poison(total).flatten()
        return reduce_patches(losses.flatten(0, 1), counted.flatten(0, 1), poison, present, reduction=reduction, trim=trim)
    return reduce_patch_sums(total, number, present, reduction)


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
    pred, target, mask = pred.contiguous(), _constant(target), _contiguous(mask)
    if reduction == "mean" and gives_means(pred):
        return matching_mean(pred, target, mask, scales, normalize)
    per_pixel = reduction == "none"
    losses: Tensor
    total, number, losses, _, _ = GradientMatching.apply(pred, target, mask, scales, normalize, per_pixel)
    if per_pixel:
        return losses
    return reduce_scales(total.t(), number.t(), reduction)


def _constant(x: Tensor) -> Tensor:
    return (x.detach() if x.requires_grad else x).contiguous()


def _contiguous(mask: Tensor | None) -> Tensor | None:
    return None if mask is None else mask.contiguous()


def _poison(total: Tensor) -> Tensor:
    """NaN where an image is poisoned, else 1."""
    total = total.detach()
    return torch.where(total.isnan(), torch.nan, torch.ones_like(total))


def _given(target: Tensor, mask: Tensor | None, options: NormOptions, stats: TargetStats | None) -> tuple[Tensor, ...]:
    """What is known of the target before the operator runs: nothing, edges, or all of TargetStats."""
    if stats is not None:
        return tuple(x.contiguous() for x in stats)
    borders = _borders(target, mask, options)
    return () if borders is None else (borders,)


def _six(given: tuple[Tensor, ...]) -> tuple[Tensor | None, ...]:
    return (*given, *(None,) * (6 - len(given)))


def _borders(target: Tensor, mask: Tensor | None, options: NormOptions) -> Tensor | None:
    """(B, K + 1) borders of the finest level; None for equal parts of the whole range, which the operators cut themselves.

    The formulas are those of ``reference.segments.edges`` and ``reference.hdn``; only the order statistics come from elsewhere.
    """
    if options.partition == "grid" or (options.partition == "range" and options.range_clip == (0.0, 1.0)):
        return None
    target, finest = target.float() if target.dtype in HALF else target, max(options.segments)
    count = (
        mask.sum((1, 2))
        if mask is not None
        else target.new_full(target.shape[:1], target.shape[1] * target.shape[2], dtype=torch.int64)
    )
    parts = torch.arange(finest + 1, device=target.device)
    if options.partition == "range":
        ranks = torch.stack([share_of(count - 1, share) for share in options.range_clip], dim=1)
        low, high = _at(target, mask, ranks, count).unbind(1)
        width = high - low
        return torch.stack([low + width * k / finest for k in range(finest + 1)], dim=1)
    if options.variant == "dadkit":
        return _at(target, mask, (count - 1)[:, None] * parts // finest, count)
    ranks = (parts / finest).to(target.dtype) * (count - 1).clamp(min=0).to(target.dtype)[:, None]
    below, above = ranks.floor().long(), ranks.ceil().long()
    low, high = _at(target, mask, below, count), _at(target, mask, above, count)
    return torch.stack([torch.lerp(low[:, k], high[:, k], ranks[:, k] - below[:, k]) for k in range(finest + 1)], dim=1)


def _at(x: Tensor, mask: Tensor | None, ranks: Tensor, count: Tensor) -> Tensor:
    ranks = ranks.clamp(min=0)
    values: Tensor = operators().order_statistics(x, mask, ranks.contiguous())
    return torch.where(count[:, None] > 0, values, 0)
