"""The built-in normalizers, and losses through any normalizer.

A built-in normalizer is a normalised loss of ``dadkit.losses`` that is called for the maps which it compares.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor

from dadkit.losses import HybridNormLoss, L1Loss, l1_loss
from dadkit.losses.inputs import check_reduction, check_trim, patch_pair, refuse_fine_boxes, whole_maps
from dadkit.losses.local_global import patches_loss
from dadkit.losses.normalization import maps_loss
from dadkit.ops import Backend
from dadkit.ops.dispatch import cannot_run, effective
from dadkit.ops.reference import Partition, Reduction, Variant
from dadkit.ops.reference.local_global import cut_patches, reduce_patches
from dadkit.ops.reference.reduction import reduce, sanitize

if TYPE_CHECKING:
    from dadkit.interfaces import Normalizer

__all__ = ["Global", "Hybrid", "Identity", "Local", "local_global", "map_loss"]


class Hybrid(HybridNormLoss):
    """Normalises within the parts of the target's depth range, at several levels (Distill Any Depth, section 3.1).

    ``dadkit.losses.hybrid_norm_loss`` has the formula, the invariances and the degenerate cases.

    Args:
        segments: levels: into how many parts the range is cut; different numbers out of 1, 2, 4, 8.
        partition: ``range``: parts of equal width; ``quantile``: of equal pixel count; ``grid``: cells of the image.
        variant: ``dadkit``, or ``hdn`` for the published code of Hierarchical Depth Normalization.
        min_pixels: least number of pixels of a part that counts (not from the paper).
        mad_floor: least deviation of a part relative to the whole map's (not from the paper).
        range_clip: quantiles of the target between which ``range`` cuts (not from the paper).
        detach_median: take the prediction's medians for constants (not from the paper).

    Raises:
        ValueError: an option has no legal value.

    Example:
        >>> pred_n, target_n, weight = Hybrid()(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8))
        >>> pred_n.shape
        torch.Size([2, 3, 8, 8])
    """

    def __init__(
        self,
        *,
        segments: tuple[int, ...] = (1, 2, 4),
        partition: Partition = "range",
        variant: Variant = "dadkit",
        min_pixels: int = 16,
        mad_floor: float = 0.01,
        range_clip: tuple[float, float] = (0.0, 1.0),
        detach_median: bool = False,
    ) -> None:
        super().__init__(
            segments=segments,
            partition=partition,
            variant=variant,
            min_pixels=min_pixels,
            mad_floor=mad_floor,
            range_clip=range_clip,
            detach_median=detach_median,
        )

    forward = HybridNormLoss.normalized  # type: ignore[assignment]

    def loss(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        *,
        reduction: Reduction = "mean",
        trim: float = 0.0,
        backend: Backend = "auto",
    ) -> Tensor:
        """Returns the L1 loss of the normalised pair, in one operator."""
        return maps_loss(pred, target, mask, self.norm, trim=trim, reduction=reduction, backend=backend)

    def local_global(
        self,
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
        """Returns the same between a student's map and a teacher's patches; see ``dadkit.losses.local_global_loss``."""
        return patches_loss(
            pred, target, boxes, mask, self.norm, pred_mask=pred_mask, trim=trim, reduction=reduction, backend=backend
        )


class Global(Hybrid):
    """Normalises the whole map: the scale- and shift-invariant loss of MiDaS and Depth Anything.

    Args:
        variant, detach_median: as in :class:`Hybrid`.
    """

    def __init__(self, *, variant: Variant = "dadkit", detach_median: bool = False) -> None:
        super().__init__(segments=(1,), variant=variant, detach_median=detach_median)


class Local(Hybrid):
    """Normalises within the four parts of the target's range only.

    Args:
        partition, variant, min_pixels, mad_floor, range_clip, detach_median: as in :class:`Hybrid`.
    """

    def __init__(
        self,
        *,
        partition: Partition = "range",
        variant: Variant = "dadkit",
        min_pixels: int = 16,
        mad_floor: float = 0.01,
        range_clip: tuple[float, float] = (0.0, 1.0),
        detach_median: bool = False,
    ) -> None:
        super().__init__(
            segments=(4,),
            partition=partition,
            variant=variant,
            min_pixels=min_pixels,
            mad_floor=mad_floor,
            range_clip=range_clip,
            detach_median=detach_median,
        )


class Identity(L1Loss):
    """Compares the maps as they are (``none``): plain L1.

    Both must be in one scale and shift. Teachers of different ranges need targets standardised beforehand, by the scale that
    ``dadkit.losses.ScaleAnchorLoss`` measures for each of them.
    """

    def __init__(self) -> None:
        super().__init__()

    forward = L1Loss.normalized  # type: ignore[assignment]

    def loss(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        *,
        reduction: Reduction = "mean",
        trim: float = 0.0,
        backend: Backend = "auto",
    ) -> Tensor:
        """Returns ``dadkit.losses.l1_loss``."""
        return l1_loss(pred, target, mask, trim=trim, reduction=reduction, backend=backend)


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
    """Returns the L1 loss of a pair of maps as ``normalizer`` compares them: sum over levels of weight |pred_n - target_n|.

    A normalizer needs nothing but ``__call__``. It may offer ``loss(pred, target, mask, *, reduction, trim, backend)``, its
    fast path; of the keywords after ``reduction`` it may leave out what it does not have.

    Args:
        normalizer: any ``dadkit.interfaces.Normalizer``.
        pred: (B, 1, H, W) or (B, H, W); gets the gradient.
        target: same shape.
        mask: bool of the same shape; None = all valid.
        reduction, trim: as in ``dadkit.losses.hybrid_norm_loss``; pixels of weight 0 leave the mean.
        backend: handed to the normalizer's fast path. ``"reference"`` takes no fast path that does not know the keyword.

    Raises:
        ValueError: wrong shapes, dtypes or options; a normalizer answers in a wrong shape.
        RuntimeError: ``backend="fused"``, and the normalizer has no fast path with this keyword, or it cannot run here.

    Example:
        >>> map_loss(Global(), torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8), reduction="image").shape
        torch.Size([2])
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
    """Returns the local-global loss with any normalizer: the student's map read at each patch's grid, then as :func:`map_loss`.

    The fast path is ``local_global(pred, target, boxes, mask, *, pred_mask, reduction, trim, backend)``.

    Args:
        normalizer: any ``dadkit.interfaces.Normalizer``.
        pred, target, boxes, mask, pred_mask, reduction, trim: as in ``dadkit.losses.local_global_loss``.
        backend: as in :func:`map_loss`.

    Raises:
        ValueError: as in ``dadkit.losses.local_global_loss``; a normalizer answers in a wrong shape.
        RuntimeError: as in :func:`map_loss`.
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
    """Returns the per-pixel loss, the pixels that take part, and the poison factor of maps (B, H, W), through ``__call__``."""
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


def _fast_path(normalizer: Normalizer, name: str, *, backend: Backend, **keywords: Any) -> Callable[..., Tensor] | None:
    """Returns the normalizer's own method with those keywords that it knows; None if it lacks one that matters here.

    A trim, a mask or a backend that a method does not know would be dropped in silence.

    Raises:
        RuntimeError: ``backend`` is ``"fused"`` and there is no method that knows it.
    """
    method = getattr(normalizer, name, None)
    known = set() if method is None else _keywords(getattr(method, "__func__", method))
    chosen = effective(backend)
    if chosen == "fused" and not known & {"backend", "**"}:
        raise cannot_run(f"the normalizer {type(normalizer).__qualname__} has no method '{name}' that takes a backend")
    if method is None:
        return None
    keywords["backend"] = backend
    if "**" not in known:
        missing = keywords.keys() - known
        neutral = {"backend": "auto", "trim": 0.0, "pred_mask": None}
        if any({**keywords, "backend": chosen}[key] != neutral.get(key) for key in missing):
            return None
        keywords = {key: value for key, value in keywords.items() if key not in missing}
    return functools.partial(method, **keywords)


@functools.cache
def _keywords(function: Callable[..., Any]) -> set[str]:
    """Returns the names of a function's parameters, and ``**`` if it takes any keyword."""
    parameters = inspect.signature(function).parameters.values()
    return {"**" if p.kind is p.VAR_KEYWORD else p.name for p in parameters}


def _check(reduction: str, trim: float) -> None:
    check_reduction(reduction)
    check_trim(trim)
