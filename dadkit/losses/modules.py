"""The normalised losses as modules: options at construction, tensors at the call."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from dadkit.losses.base import Configured
from dadkit.losses.inputs import check_options, check_reduction, check_trim, whole_maps
from dadkit.losses.local_global import patches_loss
from dadkit.losses.normalization import l1_loss, maps_loss, normalized_map
from dadkit.ops import Backend
from dadkit.ops.reference import NormOptions, Partition, Reduction, TargetStats, Variant, segment_weights

__all__ = ["HybridNormLoss", "L1Loss", "LocalGlobalLoss", "LocalNormLoss", "SSILoss"]


class HybridNormLoss(Configured):
    """:func:`dadkit.losses.hybrid_norm_loss` with its options fixed; the options are documented there.

    Example:
        >>> HybridNormLoss(segments=(1, 2))(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)).shape
        torch.Size([])
    """

    removed_options: ClassVar[dict[str, object]] = {"detach_scale": False}
    """Options of earlier versions and their only legal value: a configuration may still name them."""

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
        trim: float = 0.0,
        reduction: Reduction | None = None,
        backend: Backend = "auto",
    ) -> None:
        norm = NormOptions(tuple(segments), partition, variant, min_pixels, mad_floor, (*range_clip,), detach_median)
        check_options(norm)
        check_trim(trim)
        if reduction is not None:
            check_reduction(reduction)
        super().__init__(trim=trim, reduction=reduction, backend=backend)
        self.norm = norm

    def forward(
        self, pred: Tensor, target: Tensor, mask: Tensor | None = None, *, target_stats: TargetStats | None = None
    ) -> Tensor:
        """Returns the loss of ``pred`` against ``target`` where ``mask`` is True."""
        return maps_loss(pred, target, mask, self.norm, target_stats=target_stats, **self.options)

    def normalized(
        self, pred: Tensor, target: Tensor, mask: Tensor | None = None, *, backend: Backend | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns what the loss compares: both maps normalised, and the weight of each level at each pixel.

        A pixel's loss is ``(weight * |pred_n - target_n|).sum(1)``.

        Args:
            pred, target, mask: as in :func:`dadkit.losses.hybrid_norm_loss`.
            backend: which implementation normalises; None: the module's own. The weights come from the reference.

        Returns:
            ``(pred_n, target_n, weight)``, (B, L, H, W) each; weights sum over the L levels to 1 where a pixel takes part,
            and to 0 elsewhere. Only ``pred_n`` carries a gradient.
        """
        backend = self.options["backend"] if backend is None else backend
        pred_n = normalized_map(pred, mask, self.norm, cut_by=target, backend=backend)
        target_n = normalized_map(target.detach(), mask, self.norm, backend=backend)
        _, d, m = whole_maps(pred, target, mask)
        return pred_n, target_n.to(pred_n.dtype), segment_weights(d, m, self.norm)

    def extra_repr(self) -> str:
        """Returns all options, for ``repr``."""
        return ", ".join(f"{name}={value!r}" for name, value in {**self.norm._asdict(), **self.options}.items())


class SSILoss(HybridNormLoss):
    """:func:`dadkit.losses.ssi_loss`: the whole map is the only segment.

    Example:
        >>> SSILoss(trim=0.1)(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)).shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        variant: Variant = "dadkit",
        detach_median: bool = False,
        trim: float = 0.0,
        reduction: Reduction | None = None,
        backend: Backend = "auto",
    ) -> None:
        super().__init__(
            segments=(1,), variant=variant, detach_median=detach_median, trim=trim, reduction=reduction, backend=backend
        )


class LocalNormLoss(HybridNormLoss):
    """:func:`dadkit.losses.local_norm_loss`: the four parts of the target's range only.

    Example:
        >>> LocalNormLoss(reduction="image")(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)).shape
        torch.Size([2])
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
            trim=trim,
            reduction=reduction,
            backend=backend,
        )


class LocalGlobalLoss(HybridNormLoss):
    """:func:`dadkit.losses.local_global_loss`: the teacher's patches against the student's one map. Options as for hybrid.

    Example:
        >>> boxes = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]])
        >>> LocalGlobalLoss()(torch.rand(1, 1, 16, 16), torch.rand(1, 1, 8, 8), boxes).shape
        torch.Size([])
    """

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
        """Returns the loss of ``pred`` (B, 1, H, W) at ``boxes`` (B, N, 4) against the patches ``target`` (B, N, h, w)."""
        return patches_loss(
            pred, target, boxes, mask, self.norm, pred_mask=pred_mask, target_stats=target_stats, **self.options
        )


class L1Loss(Configured):
    """:func:`dadkit.losses.l1_loss`: no normalisation.

    Example:
        >>> L1Loss()(torch.zeros(1, 4, 4), torch.ones(1, 4, 4)).item()
        1.0
    """

    def __init__(self, *, trim: float = 0.0, reduction: Reduction = "mean", backend: Backend = "auto") -> None:
        check_trim(trim)
        check_reduction(reduction)
        super().__init__(trim=trim, reduction=reduction, backend=backend)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the loss of ``pred`` against ``target`` where ``mask`` is True."""
        return l1_loss(pred, target, mask, **self.options)

    def normalized(
        self, pred: Tensor, target: Tensor, mask: Tensor | None = None, *, backend: Backend | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Returns the maps themselves as one level, 0 outside the mask, and the weight 1 inside; (B, 1, H, W) each."""
        p, d, m = whole_maps(pred, target, mask)
        valid = torch.ones_like(d, dtype=torch.bool) if m is None else m
        pred_n, target_n = torch.where(valid, p, 0), torch.where(valid, d.detach(), 0)
        return pred_n[:, None], target_n[:, None], valid.to(p.dtype)[:, None]
