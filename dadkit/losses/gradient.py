"""The multi-scale gradient matching loss."""

from __future__ import annotations

from torch import Tensor

from dadkit.losses.base import Configured
from dadkit.losses.inputs import check_reduction, whole_maps
from dadkit.ops import Backend, choose, fused, reads_half, reference
from dadkit.ops.reference import Reduction

__all__ = ["GradientMatchingLoss", "gradient_matching_loss"]


def gradient_matching_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    scales: int = 4,
    normalize: bool = True,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
) -> Tensor:
    """Differences between neighbours of the residual, at several scales: edges where the teacher has them, and smooth
    elsewhere.

    R = N(pred) - N(target), each map normalised as a whole by its median and deviation; for scale k = 0, 1, … every 2^k-th row
    and column of R is kept (no averaging), and

        L_k = 1 / M_k  sum |R(x + 1, y) - R(x, y)| + |R(x, y + 1) - R(x, y)|

    over the pairs of valid pixels, M_k being the number of valid *pixels* of that scale. The scales are summed.
    Depth Anything V2 weighs it twice as much as the scale- and shift-invariant term; four scales are MiDaS's.

    Args:
        pred: (B, H, W) or (B, 1, H, W), floating point; gets the gradient.
        target: same shape; gets no gradient.
        mask: bool of the same shape, True = valid; None = all valid.
        scales: number of scales, at least 1. A scale with a grid of a single pixel has no pairs and adds 0.
        normalize: False compares the maps as they are.
        reduction: ``"mean"``: images' losses averaged over the batch; ``"pixel"``: per scale, the batch's sum over the batch's
            number of pixels; ``"image"``: (B,); ``"none"``: a map in pred's shape, each difference at its left or upper pixel,
            weighted so that the map's mean over an image's valid pixels is that image's loss.
        backend: ``"auto"``, ``"fused"`` or ``"reference"``.

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances (with ``normalize``; float64 to rounding): in pred and in target to scale a > 0 and shift; the gradient g has
    <g, 1> = <g, pred> = 0. (B, H, W) and (B, 1, H, W) give the same.

    Degenerate cases: no valid pixel and (with ``normalize``) a constant target give 0 and no gradient; a constant prediction
    gets no gradient. Non-finite values as in :func:`hybrid_norm_loss`.

    Raises:
        ValueError: wrong shapes, dtypes or options.
        RuntimeError: ``backend="fused"`` cannot run here.

    Example:
        >>> target = torch.arange(64.0).view(1, 8, 8)
        >>> gradient_matching_loss(2 * target + 3, target).item()
        0.0
        >>> gradient_matching_loss(target + torch.eye(8), target).item() > 0
        True
    """
    p, d, m = whole_maps(pred, target, mask, half=reads_half(backend, pred, target))
    check_reduction(reduction)
    check_scales(scales)
    function = choose(backend, fused.gradient_matching_loss, reference.gradient_matching_loss, p, d)
    loss = function(p, d, m, scales=scales, normalize=normalize, reduction=reduction)
    return loss.view(pred.shape) if reduction == "none" else loss


def check_scales(scales: int) -> None:
    """ValueError unless there is a scale."""
    if scales < 1:
        raise ValueError(f"scales must be at least 1, got {scales}")


class GradientMatchingLoss(Configured):
    """:func:`dadkit.losses.gradient_matching_loss` with its options fixed.

    Example:
        >>> GradientMatchingLoss(scales=2)(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)).shape
        torch.Size([])
    """

    def __init__(
        self, *, scales: int = 4, normalize: bool = True, reduction: Reduction = "mean", backend: Backend = "auto"
    ) -> None:
        check_scales(scales)
        check_reduction(reduction)
        super().__init__(scales=scales, normalize=normalize, reduction=reduction, backend=backend)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the loss of ``pred`` against ``target`` where ``mask`` is True."""
        return gradient_matching_loss(pred, target, mask, **self.options)
