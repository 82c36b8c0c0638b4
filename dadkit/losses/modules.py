"""Thin modules around the functionals: options at construction, tensors at the call."""

from __future__ import annotations

from torch import Tensor, nn

from dadkit.losses.base import Configured
from dadkit.losses.feature import check_threshold, feature_alignment_loss
from dadkit.losses.gradient import check_scales, gradient_matching_loss
from dadkit.losses.inputs import check_options, check_reduction, check_trim
from dadkit.losses.local_global import local_global_loss
from dadkit.losses.normalization import hybrid_norm_loss, l1_loss
from dadkit.ops import Backend
from dadkit.ops.reference import NormOptions, Partition, Reduction, TargetStats, Variant

__all__ = [
    "FeatureAlignmentLoss",
    "GradientMatchingLoss",
    "HybridNormLoss",
    "L1Loss",
    "LocalGlobalLoss",
    "LocalNormLoss",
    "SSILoss",
]


class HybridNormLoss(Configured):
    """:func:`dadkit.losses.hybrid_norm_loss` with its options fixed; the options are documented there."""

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
        detach_scale: bool = False,
        trim: float = 0.0,
        reduction: Reduction | None = None,
        backend: Backend = "auto",
    ) -> None:
        norm = NormOptions(tuple(segments), partition, variant, min_pixels, mad_floor, (*range_clip,), detach_median)
        check_options(norm, (1, 1), detach_scale)
        check_trim(trim)
        if reduction is not None:
            check_reduction(reduction)
        super().__init__(**norm._asdict(), trim=trim, reduction=reduction, backend=backend)

    def forward(
        self, pred: Tensor, target: Tensor, mask: Tensor | None = None, *, target_stats: TargetStats | None = None
    ) -> Tensor:
        """The loss of ``pred`` against ``target`` where ``mask`` is True."""
        return hybrid_norm_loss(pred, target, mask, target_stats=target_stats, **self.options)


class SSILoss(HybridNormLoss):
    """:func:`dadkit.losses.ssi_loss`: the whole map is the only segment."""

    def __init__(
        self,
        *,
        variant: Variant = "dadkit",
        detach_median: bool = False,
        detach_scale: bool = False,
        trim: float = 0.0,
        reduction: Reduction | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            segments=(1,),
            variant=variant,
            detach_median=detach_median,
            detach_scale=detach_scale,
            trim=trim,
            reduction=reduction,
            backend=backend,
        )


class LocalNormLoss(HybridNormLoss):
    """:func:`dadkit.losses.local_norm_loss`: the four parts of the target's range only."""

    def __init__(
        self,
        *,
        partition: Partition = "range",
        variant: Variant = "dadkit",
        min_pixels: int = 16,
        mad_floor: float = 0.01,
        range_clip: tuple[float, float] = (0.0, 1.0),
        detach_median: bool = False,
        detach_scale: bool = False,
        trim: float = 0.0,
        reduction: Reduction | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            segments=(4,),
            partition=partition,
            variant=variant,
            min_pixels=min_pixels,
            mad_floor=mad_floor,
            range_clip=range_clip,
            detach_median=detach_median,
            detach_scale=detach_scale,
            trim=trim,
            reduction=reduction,
            backend=backend,
        )


class LocalGlobalLoss(HybridNormLoss):
    """:func:`dadkit.losses.local_global_loss`: the teacher's patches against the student's one map. Options as for hybrid."""

    def forward(  # type: ignore[override]
        self,
        pred: Tensor,
        target: Tensor,
        boxes: Tensor,
        mask: Tensor | None = None,
        *,
        pred_mask: Tensor | None = None,
        target_stats: TargetStats | None = None,
    ) -> Tensor:
        """The loss of ``pred`` (B, 1, H, W) at ``boxes`` (B, N, 4) against the patches ``target`` (B, N, h, w)."""
        return local_global_loss(pred, target, boxes, mask, pred_mask=pred_mask, target_stats=target_stats, **self.options)


class L1Loss(Configured):
    """:func:`dadkit.losses.l1_loss`: no normalisation."""

    def __init__(self, *, trim: float = 0.0, reduction: Reduction = "mean", backend: Backend = "auto") -> None:
        check_trim(trim)
        check_reduction(reduction)
        super().__init__(trim=trim, reduction=reduction, backend=backend)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of ``pred`` against ``target`` where ``mask`` is True."""
        return l1_loss(pred, target, mask, **self.options)


class GradientMatchingLoss(Configured):
    """:func:`dadkit.losses.gradient_matching_loss` with its options fixed."""

    def __init__(
        self, *, scales: int = 4, normalize: bool = True, reduction: Reduction = "mean", backend: Backend = "auto"
    ) -> None:
        check_scales(scales)
        check_reduction(reduction)
        super().__init__(scales=scales, normalize=normalize, reduction=reduction, backend=backend)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of ``pred`` against ``target`` where ``mask`` is True."""
        return gradient_matching_loss(pred, target, mask, **self.options)


class FeatureAlignmentLoss(Configured):
    """:func:`dadkit.losses.feature_alignment_loss`, with a linear adapter on the student's side where the widths differ.

    Args:
        student_width: C of the student's tokens; None with ``reference_width`` None = the widths are equal.
        reference_width: C of the reference's tokens.
        cos_threshold: tokens above this similarity are left alone.
        reduction: as in the functional.

    The adapter, ``self.adapter``, is trained with the student and thrown away afterwards; it is None where the widths agree.

    Raises:
        ValueError: only one width is given, or one is under 1.
    """

    def __init__(
        self,
        *,
        student_width: int | None = None,
        reference_width: int | None = None,
        cos_threshold: float = 0.85,
        reduction: Reduction = "mean",
    ) -> None:
        check_reduction(reduction)
        check_threshold(cos_threshold)
        super().__init__(cos_threshold=cos_threshold, reduction=reduction)
        self.adapter: nn.Linear | None = None
        if student_width != reference_width:
            if student_width is None or reference_width is None or min(student_width, reference_width) < 1:
                raise ValueError(f"give both widths, at least 1 each, or none; got {student_width} and {reference_width}")
            self.adapter = nn.Linear(student_width, reference_width)

    def forward(self, student_tokens: Tensor, reference_tokens: Tensor) -> Tensor:
        """The loss of tokens (B, N, student_width) against (B, N, reference_width)."""
        if self.adapter is not None:
            student_tokens = self.adapter(student_tokens)
        return feature_alignment_loss(student_tokens, reference_tokens, **self.options)
