"""Losses through any normalizer: its own fast path where it offers one, else its normalised maps.

A normalizer needs nothing but ``__call__``. It may offer ``loss(pred, target, mask, *, reduction, trim, backend)`` and
``local_global(pred, target, boxes, mask, *, pred_mask, reduction, trim, backend)``; of the keywords after ``reduction`` it may
leave out what it does not have.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dadkit.losses.checks import refuse_fine_boxes
from dadkit.losses.inputs import check_reduction, check_trim, patch_pair, whole_maps
from dadkit.ops import Backend
from dadkit.ops.reference import Reduction
from dadkit.ops.reference.local_global import cut_patches, reduce_patches
from dadkit.ops.reference.reduction import reduce, sanitize

if TYPE_CHECKING:
    from dadkit.interfaces import Normalizer

__all__ = ["local_global", "map_loss"]


def map_loss(
    normalizer: Normalizer,
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    reduction: Reduction = "mean",
    trim: float = 0.0,
    backend: Backend = "auto",
) -> Tensor:
    """The L1 loss of a pair of maps as ``normalizer`` compares them: sum over levels of weight |pred_n - target_n|.

    Args:
        normalizer: any ``dadkit.interfaces.Normalizer``.
        pred: (B, 1, H, W) or (B, H, W); gets the gradient.
        target: same shape.
        mask: bool of the same shape; None = all valid.
        reduction, trim: as in ``dadkit.losses.hybrid_norm_loss``; pixels of weight 0 leave the mean.
        backend: handed to the normalizer's fast path; without one there is only the reference.

    Raises:
        ValueError: wrong shapes, dtypes or options; a normalizer whose answer has a wrong shape.
    """
    fast = _fast_path(normalizer, "loss", reduction=reduction, trim=trim, backend=backend)
    if fast is not None:
        return fast(pred, target, mask)
    p, d, m = whole_maps(pred, target, mask)
    _check(reduction, trim)
    loss = reduce(*_pixel_loss(normalizer, p, d, m), reduction=reduction, trim=trim)
    return loss.view(pred.shape) if reduction == "none" else loss


def local_global(
    normalizer: Normalizer,
    pred: Tensor,
    target: Tensor,
    boxes: Tensor,
    mask: Tensor | None = None,
    *,
    pred_mask: Tensor | None = None,
    reduction: Reduction = "mean",
    trim: float = 0.0,
    backend: Backend = "auto",
) -> Tensor:
    """The local-global loss with any normalizer: the student's map read at each patch's grid, then as :func:`map_loss`.

    Args:
        normalizer: any ``dadkit.interfaces.Normalizer``.
        pred, target, boxes, mask, pred_mask, reduction, trim: as in ``dadkit.losses.local_global_loss``.
        backend: handed to the normalizer's fast path; without one there is only the reference.

    Raises:
        ValueError: as in ``dadkit.losses.local_global_loss``; a normalizer whose answer has a wrong shape.
    """
    fast = _fast_path(normalizer, "local_global", reduction=reduction, pred_mask=pred_mask, trim=trim, backend=backend)
    if fast is not None:
        return fast(pred, target, boxes, mask)
    p, d, b, m, pm = patch_pair(pred, target, boxes, mask, pred_mask)
    _check(reduction, trim)
    refuse_fine_boxes(b, d)
    crops, valid, present = cut_patches(p, b, d.shape, m, pm)
    loss, counted, poison = _pixel_loss(normalizer, crops, d.flatten(0, 1), valid)
    return reduce_patches(loss, counted, poison, present, reduction=reduction, trim=trim)


def _pixel_loss(normalizer: Normalizer, pred: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Per-pixel loss, the pixels that take part, and the poison factor of maps (B, H, W), through ``__call__``."""
    pred, target, valid, poison = sanitize(pred, target, mask)
    pred_n, target_n, weight = normalizer(pred[:, None], target[:, None], valid[:, None])
    want = (len(pred), *pred.shape[1:])
    got = {tuple(x.shape) for x in (pred_n, target_n, weight)}
    if len(got) != 1 or pred_n.ndim != 4 or (len(pred_n), *pred_n.shape[2:]) != want:
        raise ValueError(
            f"{type(normalizer).__qualname__} must answer with three tensors (B, L, H, W), here ({want[0]}, L, {want[1]}, "
            f"{want[2]}); got {', '.join(str(tuple(x.shape)) for x in (pred_n, target_n, weight))}"
        )
    weight = (weight.detach() * valid[:, None]).to(pred.dtype)
    loss = (weight * (pred_n - target_n).abs().where(weight > 0, 0)).sum(1)
    counted = (weight.sum(1) > 0) | (valid & poison.isnan()[:, None, None])
    return loss, counted, poison


def _fast_path(normalizer: Normalizer, name: str, **keywords: Any) -> Callable[..., Tensor] | None:
    """The normalizer's own method with those keywords that it knows; None if it lacks one that matters here."""
    method = getattr(normalizer, name, None)
    if method is None:
        return None
    parameters = inspect.signature(method).parameters.values()
    if not any(p.kind is p.VAR_KEYWORD for p in parameters):
        missing = keywords.keys() - {p.name for p in parameters}
        # A backend is a preference; a trim or a mask that is not understood would change the loss.
        if any(name != "backend" and keywords[name] not in (None, 0.0) for name in missing):
            return None
        keywords = {name: value for name, value in keywords.items() if name not in missing}
    return functools.partial(method, **keywords)


def _check(reduction: str, trim: float) -> None:
    check_reduction(reduction)
    check_trim(trim)
