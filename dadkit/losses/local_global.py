"""The local-global loss: a teacher's detailed patches against a student's one map."""

from __future__ import annotations

from torch import Tensor

from dadkit.losses.inputs import check_options, check_stats, check_trim, patch_pair, refuse_fine_boxes
from dadkit.losses.normalization import reduction_of
from dadkit.ops import Backend, choose, fused, reads_half, reference
from dadkit.ops.reference import NormOptions, Partition, Reduction, TargetStats, Variant

__all__ = ["local_global_loss", "patches_loss"]


def local_global_loss(
    pred: Tensor,
    target: Tensor,
    boxes: Tensor,
    mask: Tensor | None = None,
    *,
    pred_mask: Tensor | None = None,
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
    """Hybrid-normalised L1 between the teacher's patches and the same places of the student's one map (Distill Any Depth,
    L_lg).

    The student sees the whole region once; the teacher sees parts of it at full detail. The student's map is read at the
    patch's grid, bilinearly with half-pixel centres,

        x_j = x0 + (j + 0.5) (x1 - x0) / w - 0.5,    clamped to the map (not to the box),

    rows alike, and compared with the patch by :func:`hybrid_norm_loss`, with the segments of the patch.

    Args:
        pred: (B, 1, H, W) or (B, H, W), the student's map of the region; gets the gradient.
        target: (B, N, h, w), the teacher's maps of N patches of each region; gets no gradient.
        boxes: (B, N, 4) floating point: x0, y0, x1, y1 of each patch in pixels of ``pred``; x1 and y1 exclusive, fractions and
            overlaps welcome, at most 2 w wide and 2 h high. A box without area is left out of the mean.
        mask: bool (B, N, h, w), True = valid; None = all valid.
        pred_mask: bool of pred's shape; a sample counts only if all pixels that it reads are valid. None = all valid.
        segments, partition, variant, min_pixels, mad_floor, range_clip, detach_median, trim, backend: as in
            :func:`hybrid_norm_loss`, for each patch.
        reduction: ``"mean"``: mean over a patch's pixels, over an image's patches, over the batch; patches and images without
            valid pixels count 0. ``"pixel"``: mean over all pixels; ``"image"``: (B,); ``"none"``: (B, N, h, w). None:
            ``"mean"``, or for ``hdn`` ``"pixel"``.
        target_stats: answer of :func:`target_statistics` for the patches as (B * N, h, w).

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype and is summed over the patches that read a
        pixel.

    Invariances: those of :func:`hybrid_norm_loss`, in pred and per patch in target; the order of an image's patches does not
    matter. With a box at integer borders and h x w pixels, it is :func:`hybrid_norm_loss` on the crop, bit for bit.

    Degenerate cases: as in :func:`hybrid_norm_loss`, per patch. A non-finite value of ``pred`` makes the loss NaN if a patch
    reads it, and the gradient of the pixels that this patch reads.

    Raises:
        ValueError: wrong shapes, dtypes or options; a box that minifies more than twice, which would leave pixels of the
            student without gradient. On a GPU and under ``torch.compile`` the boxes' values are not looked at;
            :func:`check_inputs` does.
        RuntimeError: ``backend="fused"`` cannot run here.

    Example:
        >>> student = torch.arange(256.0).view(1, 1, 16, 16)
        >>> boxes = torch.tensor([[[0.0, 0.0, 8.0, 8.0], [4.0, 4.0, 12.0, 12.0]]])  # two patches that overlap
        >>> teacher = torch.stack([student[0, 0, :8, :8], student[0, 0, 4:12, 4:12]])[None]
        >>> local_global_loss(student, 5 * teacher + 1, boxes).item()
        0.0
    """
    options = NormOptions(tuple(segments), partition, variant, min_pixels, mad_floor, (*range_clip,), detach_median)
    return patches_loss(
        pred,
        target,
        boxes,
        mask,
        options,
        pred_mask=pred_mask,
        trim=trim,
        reduction=reduction,
        target_stats=target_stats,
        backend=backend,
    )


def patches_loss(
    pred: Tensor,
    target: Tensor,
    boxes: Tensor,
    mask: Tensor | None,
    options: NormOptions,
    *,
    pred_mask: Tensor | None = None,
    trim: float = 0.0,
    reduction: Reduction | None = None,
    target_stats: TargetStats | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """:func:`local_global_loss` with its options packed."""
    p, d, b, m, pm = patch_pair(pred, target, boxes, mask, pred_mask, half=reads_half(backend, pred, target))
    check_options(options, d.shape)
    check_stats(target_stats, d.shape[0] * d.shape[1], options, p)
    check_trim(trim)
    refuse_fine_boxes(b, d)
    reduction = reduction_of(reduction, options.variant)
    function = choose(backend, fused.local_global_loss, reference.local_global_loss, p, d)
    return function(p, d, b, m, options, pred_mask=pm, trim=trim, reduction=reduction, target_stats=target_stats)
