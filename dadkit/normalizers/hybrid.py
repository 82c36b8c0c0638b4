"""The normalizers by median and mean absolute deviation: hybrid, global, local."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from dadkit.losses import hybrid_norm_loss, local_global_loss, normalize
from dadkit.losses.inputs import check_options, whole_maps
from dadkit.ops import Backend
from dadkit.ops.reference import NormOptions, Partition, Reduction, Variant, segment_weights

__all__ = ["Global", "Hybrid", "Local"]


class Hybrid:
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
        detach_scale: refused; the message says why.

    Raises:
        ValueError: an option has no legal value.
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
        detach_scale: bool = False,
    ) -> None:
        self.options = NormOptions(tuple(segments), partition, variant, min_pixels, mad_floor, (*range_clip,), detach_median)
        check_options(self.options, (1, 1), detach_scale)

    def __call__(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Both maps normalised, and the weight of each level, (B, L, H, W) each; see ``dadkit.interfaces.Normalizer``."""
        keywords = self.options._asdict()
        min_pixels = keywords.pop("min_pixels")
        pred_n = normalize(pred, mask, reference=target, **keywords)
        target_n = normalize(target.detach(), mask, **keywords)
        keywords.pop("detach_median")
        _, d, m = whole_maps(pred, target, mask)
        weight = segment_weights(d, m, min_pixels=min_pixels, **keywords)
        return pred_n, target_n.to(pred_n.dtype), weight

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
        """The L1 loss of the normalised pair in one operator."""
        keywords: dict[str, Any] = self.options._asdict()
        return hybrid_norm_loss(pred, target, mask, trim=trim, reduction=reduction, backend=backend, **keywords)

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
        """The same between a student's map and a teacher's patches; see ``dadkit.losses.local_global_loss``."""
        keywords: dict[str, Any] = self.options._asdict()
        return local_global_loss(
            pred, target, boxes, mask, pred_mask=pred_mask, trim=trim, reduction=reduction, backend=backend, **keywords
        )

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{k}={v!r}' for k, v in self.options._asdict().items())})"


class Global(Hybrid):
    """Normalises the whole map: the scale- and shift-invariant loss of MiDaS and Depth Anything.

    Args:
        variant, detach_median, detach_scale: as in :class:`Hybrid`.
    """

    def __init__(self, *, variant: Variant = "dadkit", detach_median: bool = False, detach_scale: bool = False) -> None:
        super().__init__(segments=(1,), variant=variant, detach_median=detach_median, detach_scale=detach_scale)


class Local(Hybrid):
    """Normalises within the four parts of the target's range only.

    Args:
        partition, variant, min_pixels, mad_floor, range_clip, detach_median, detach_scale: as in :class:`Hybrid`.
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
        detach_scale: bool = False,
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
        )
