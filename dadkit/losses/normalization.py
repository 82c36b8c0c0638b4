"""Median, deviation, normalised maps, and the losses on them."""

from __future__ import annotations

from typing import TypedDict, Unpack

from torch import Tensor

from dadkit.losses.inputs import check_options, check_reduction, check_stats, check_trim, single_map, whole_maps
from dadkit.ops import Backend, choose, fused, reads_half, reference
from dadkit.ops.reference import NormOptions, Partition, Reduction, TargetStats, Variant

__all__ = [
    "hybrid_norm_loss",
    "l1_loss",
    "local_norm_loss",
    "maps_loss",
    "median_mad",
    "normalize",
    "normalized_map",
    "reduction_of",
    "ssi_loss",
    "target_statistics",
]


class NormKeywords(TypedDict, total=False):
    """The keywords of :func:`hybrid_norm_loss` other than ``segments``."""

    partition: Partition
    variant: Variant
    min_pixels: int
    mad_floor: float
    range_clip: tuple[float, float]
    detach_median: bool
    trim: float
    reduction: Reduction | None
    target_stats: TargetStats | None
    backend: Backend


def median_mad(x: Tensor, mask: Tensor | None = None, *, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    """Median and mean absolute deviation about it, per image.

    t = lower median of the valid pixels (of an even number the lower of the two middle values), s = mean |x - t|.

    Args:
        x: (B, H, W) or (B, 1, H, W), floating point; gets the gradient.
        mask: bool of the same shape, True = valid; None = all valid.
        backend: ``"auto"``, ``"fused"`` or ``"reference"``.

    Returns:
        ``(median, mad)``, (B,) each, float32 (float64 for float64 input).

    Gradient: all n pixels equal to the median share its gradient evenly, dt/dx_i = [x_i = t] / #ties, whatever their order; the
    deviation's gradient goes through the median too.

    Degenerate cases: no valid pixel gives 0 and 0 without gradient; a non-finite value inside the mask makes both NaN for that
    image; values outside the mask change nothing.

    Raises:
        ValueError: wrong shape or dtype.
        RuntimeError: ``backend="fused"`` cannot run here.

    Example:
        >>> median, mad = median_mad(torch.tensor([[[1.0, 2.0, 4.0, 9.0]]]))
        >>> median.item(), mad.item()  # the lower middle value, and (1 + 0 + 2 + 7) / 4
        (2.0, 2.5)
    """
    x, mask = single_map("x", x, mask)
    return choose(backend, fused.median_mad, reference.median_mad, x)(x, mask)


def normalize(
    x: Tensor,
    mask: Tensor | None = None,
    *,
    reference: Tensor | None = None,
    segments: tuple[int, ...] = (1,),
    partition: Partition = "range",
    variant: Variant = "dadkit",
    mad_floor: float = 0.01,
    range_clip: tuple[float, float] = (0.0, 1.0),
    detach_median: bool = False,
    backend: Backend = "auto",
) -> Tensor:
    """Returns a map normalised within its segments, one channel per level.

    N_u(x) = (x - t_u) / max(s_u, mad_floor * s), with t_u and s_u the median and deviation of the segment u that the pixel
    belongs to on that level, and s the deviation of the whole map.

    Args:
        x: (B, H, W) or (B, 1, H, W), floating point; gets the gradient.
        mask: bool of the same shape, True = valid; None = all valid.
        reference: the map that cuts the segments, by its values; same shape; None = ``x`` itself. Gets no gradient.
        segments, partition, variant, mad_floor, range_clip, detach_median, backend: as in :func:`hybrid_norm_loss`.

    Returns:
        (B, L, H, W) for the L levels of ``segments``; 0 outside the mask, for constant maps and (``hdn``) in no segment.
        Segments that :func:`hybrid_norm_loss` would drop are normalised too; ``dadkit.normalizers`` gives their weights.

    Invariances (``dadkit``; up to rounding): N(a x + b) = N(x) for a > 0 with ``reference`` given and unchanged.

    Degenerate cases: as in :func:`median_mad`. With ``hdn``, a pixel on an edge at 0 is in two segments; the upper one counts
    here.

    Raises:
        ValueError: wrong shapes, dtypes or options.
        RuntimeError: ``backend="fused"`` cannot run here.

    Example:
        >>> x = torch.tensor([[[1.0, 2.0, 4.0, 9.0]]])
        >>> normalize(x).flatten().tolist()
        [-0.4000000059604645, 0.0, 0.800000011920929, 2.799999952316284]
        >>> normalize(x, segments=(1, 2, 4)).shape
        torch.Size([1, 3, 1, 4])
    """
    options = NormOptions(
        tuple(segments), partition, variant, mad_floor=mad_floor, range_clip=(*range_clip,), detach_median=detach_median
    )
    return normalized_map(x, mask, options, cut_by=reference, backend=backend)


def normalized_map(
    x: Tensor, mask: Tensor | None, options: NormOptions, *, cut_by: Tensor | None = None, backend: Backend = "auto"
) -> Tensor:
    """:func:`normalize` with its options packed; ``cut_by`` is its ``reference``."""
    flat, target, flat_mask = whole_maps(x, x if cut_by is None else cut_by, mask)
    check_options(options, flat.shape)
    function = choose(backend, fused.normalize, reference.normalize, flat, target)
    return function(flat, flat_mask, options, reference=None if cut_by is None else target)


def target_statistics(
    target: Tensor,
    mask: Tensor | None = None,
    *,
    segments: tuple[int, ...] = (1, 2, 4),
    partition: Partition = "range",
    variant: Variant = "dadkit",
    range_clip: tuple[float, float] = (0.0, 1.0),
    backend: Backend = "auto",
) -> TargetStats:
    """Returns the statistics of a target that the losses need, to be computed once, cached, and passed back as
    ``target_stats``.

    Args:
        target: (B, H, W) or (B, 1, H, W); for local-global losses the patches as (B * N, h, w).
        mask: bool of the same shape; None = all valid.
        segments, partition, variant, range_clip: those of the loss they are for; :func:`hybrid_norm_loss` documents them.
        backend: ``"auto"``, ``"fused"`` or ``"reference"``.

    Returns:
        :class:`TargetStats`, a named tuple of tensors with B rows; row i belongs to image i, so caches can be cut and joined.
        They hold for the target and mask they came from, in the dtype of the computation.

    Raises:
        ValueError: wrong shapes, dtypes or options.
        RuntimeError: ``backend="fused"`` cannot run here.

    Example:
        >>> target = torch.arange(64.0).view(1, 8, 8)
        >>> stats = target_statistics(target, segments=(1, 2))
        >>> stats.count.tolist()
        [[64, 32, 32]]
        >>> pred = torch.rand(1, 8, 8)
        >>> cached = hybrid_norm_loss(pred, target, segments=(1, 2), target_stats=stats)
        >>> torch.equal(cached, hybrid_norm_loss(pred, target, segments=(1, 2)))
        True
    """
    target, mask = single_map("target", target, mask)
    options = NormOptions(tuple(segments), partition, variant, range_clip=(*range_clip,))
    check_options(options, target.shape)
    return choose(backend, fused.target_statistics, reference.target_statistics, target)(target, mask, options)


def hybrid_norm_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    segments: tuple[int, ...] = (1, 2, 4),
    partition: Partition = "range",
    variant: Variant = "dadkit",
    min_pixels: int = 16,
    mad_floor: float = 0.01,
    range_clip: tuple[float, float] = (0.0, 1.0),
    detach_median: bool = False,
    trim: float = 0.0,
    reduction: Reduction | None = None,
    target_stats: TargetStats | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """Hybrid-normalised L1 between a student's and a teacher's map (Distill Any Depth, section 3.1).

    The *target's* depth range is cut into S parts for each level S of ``segments``. Within a segment u both maps are
    normalised, each by its own median t and mean absolute deviation s over the same pixels, and compared; a pixel's loss is the
    mean over the kept segments U_i that hold it:

        l_i = 1/|U_i| sum_u |N_u(pred_i) - N_u(target_i)|,    N_u(x) = (x - t_u) / max(s_u, mad_floor * s).

    s is the deviation of the whole map. A segment of a level S > 1 is kept iff it has ``min_pixels`` pixels and its target's
    deviation is at least ``mad_floor`` times that of the whole target (a flat sky says nothing, and would blow up noise).

    Args:
        pred: (B, H, W) or (B, 1, H, W), floating point, any scale and shift; gets the gradient.
        target: same shape; gets no gradient.
        mask: bool of the same shape, True = valid; None = all valid.
        segments: levels, different numbers out of 1, 2, 4, 8. (1,) is the global loss, (4,) the local one.
        partition: ``"range"``: parts of equal width between the target's ``range_clip`` quantiles (the paper's);
            ``"quantile"``: parts of equal pixel count, equal values together; ``"grid"``: S x S cells of the image.
        variant: ``"dadkit"`` as above, or ``"hdn"``: the published code of Hierarchical Depth Normalization, where
            s = sum |x - t| / (n + 1), N = (x - t) / (s + 1e-6), every segment is kept and segments are half open, so that the
            largest target pixel is in none, adds 0, and still counts in the mean.
        min_pixels: least number of pixels of a kept segment (not from the paper; ``dadkit`` only).
        mad_floor: least deviation of a segment relative to the whole map's, in (0, 1) (not from the paper; ``dadkit`` only).
        range_clip: quantiles of the target between which ``range`` cuts, in [0, 1] to a millionth; what is beyond belongs to
            the outer parts. (0, 0.99) keeps one near outlier from turning hybrid into global (not from the paper; ``dadkit``
            only).
        detach_median: take the prediction's medians for constants. Removes the spike of gradient at the median pixel, at the
            price of a gradient that no longer sums to 0.
        trim: share of each image's M largest pixel losses to drop, floor(trim M) of them (Depth Anything V2: 0.1).
        reduction: ``"mean"``: mean over an image's pixels, then over the batch, an image without pixels counting 0;
            ``"pixel"``: mean over all pixels of the batch; ``"image"``: (B,); ``"none"``: a loss per pixel in pred's shape, 0
            where masked or trimmed. None: ``"mean"``, or for ``hdn`` ``"pixel"``, as published.
        target_stats: answer of :func:`target_statistics` for this target, mask and options.
        backend: ``"auto"``, ``"fused"`` or ``"reference"``.

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances (float64 to rounding; ``hdn`` only up to its epsilon):
        * loss(a pred + b, target) = loss(pred, target) for a > 0, as long as b does not drown pred in rounding;
        * without ``detach_median``: the gradient g has <g, 1> = <g, pred> = 0 per image;
        * loss(pred, 2^k target) is the same bit for bit; any other scale or shift of the target may move pixels on a
          segment's edge, and changes nothing else;
        * the order of the pixels does not matter (except ``grid``), nor the other images of a batch (except ``"pixel"``).

    Degenerate cases: a constant target (s <= 8 eps max|x|) gives 0 and no gradient; a constant prediction counts as N = 0 and
    gets no gradient; an image without valid pixels gives 0 and no gradient; pixels in no kept segment give 0 and leave the
    mean. Values outside the mask, NaN and infinity included, change nothing. A non-finite value inside the mask makes its own
    image's loss and gradient NaN and no other's (:func:`check_inputs` finds it).

    Raises:
        ValueError: wrong shapes, dtypes or options.
        RuntimeError: ``backend="fused"`` cannot run here.

    Example:
        >>> target = torch.arange(64.0).view(1, 8, 8)
        >>> hybrid_norm_loss(3 * target + 5, target).item()  # blind to scale and shift
        0.0
        >>> pred = torch.rand(1, 8, 8, requires_grad=True)
        >>> hybrid_norm_loss(pred, target, mask=target > 8).backward()
        >>> pred.grad.shape
        torch.Size([1, 8, 8])
    """
    options = NormOptions(tuple(segments), partition, variant, min_pixels, mad_floor, (*range_clip,), detach_median)
    return maps_loss(pred, target, mask, options, trim=trim, reduction=reduction, target_stats=target_stats, backend=backend)


def maps_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None,
    options: NormOptions,
    *,
    trim: float = 0.0,
    reduction: Reduction | None = None,
    target_stats: TargetStats | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """:func:`hybrid_norm_loss` with its options packed."""
    p, d, m = whole_maps(pred, target, mask, half=reads_half(backend, pred, target))
    check_options(options, p.shape)
    check_stats(target_stats, len(p), options, p)
    check_trim(trim)
    reduction = reduction_of(reduction, options.variant)
    function = choose(backend, fused.hybrid_norm_loss, reference.hybrid_norm_loss, p, d)
    loss = function(p, d, m, options, trim=trim, reduction=reduction, target_stats=target_stats)
    return loss.view(pred.shape) if reduction == "none" else loss


def ssi_loss(pred: Tensor, target: Tensor, mask: Tensor | None = None, **keywords: Unpack[NormKeywords]) -> Tensor:
    """Scale- and shift-invariant L1: both whole maps normalised by median and deviation (MiDaS; "global" in Distill Any Depth).

    :func:`hybrid_norm_loss` with ``segments=(1,)``; all else is as there.

    Example:
        >>> target = torch.arange(64.0).view(1, 8, 8)
        >>> ssi_loss(2 * target - 1, target).item()
        0.0
    """
    return hybrid_norm_loss(pred, target, mask, segments=(1,), **keywords)


def local_norm_loss(pred: Tensor, target: Tensor, mask: Tensor | None = None, **keywords: Unpack[NormKeywords]) -> Tensor:
    """L1 normalised within the four parts of the target's range only ("local" in Distill Any Depth).

    :func:`hybrid_norm_loss` with ``segments=(4,)``; all else is as there.

    Example:
        >>> target = torch.arange(64.0).view(1, 8, 8)
        >>> local_norm_loss(2 * target - 1, target).item()
        0.0
    """
    return hybrid_norm_loss(pred, target, mask, segments=(4,), **keywords)


def l1_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    trim: float = 0.0,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
) -> Tensor:
    """|pred - target| without any normalisation ("none" in Distill Any Depth).

    Both maps must be in one space, scale and shift; distilling from teachers of different ranges needs standardised targets.

    Args:
        pred: (B, H, W) or (B, 1, H, W), floating point; gets the gradient.
        target: same shape; gets no gradient.
        mask: bool of the same shape, True = valid; None = all valid.
        trim, reduction, backend: as in :func:`hybrid_norm_loss`.

    Returns:
        float32 (float64 if an input is float64).

    Degenerate cases: no valid pixel gives 0; non-finite values as in :func:`hybrid_norm_loss`.

    Raises:
        ValueError: wrong shapes, dtypes or options.
        RuntimeError: ``backend="fused"`` cannot run here.

    Example:
        >>> l1_loss(torch.zeros(2, 4, 4), torch.full((2, 4, 4), 0.5)).item()
        0.5
    """
    p, d, m = whole_maps(pred, target, mask)
    check_trim(trim)
    check_reduction(reduction)
    loss = choose(backend, None, reference.l1_loss, p, d)(p, d, m, trim=trim, reduction=reduction)
    return loss.view(pred.shape) if reduction == "none" else loss


def reduction_of(reduction: Reduction | None, variant: Variant) -> Reduction:
    """``reduction``, checked; None is the variant's own."""
    if reduction is None:
        return "pixel" if variant == "hdn" else "mean"
    check_reduction(reduction)
    return reduction
