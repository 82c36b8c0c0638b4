"""Squared error on values, and logarithmic errors of metric depth."""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.losses.base import Configured
from dadkit.losses.gradient import gradient_matching_loss
from dadkit.losses.inputs import check_reduction, check_trim, whole_maps
from dadkit.ops.reference import Reduction
from dadkit.ops.reference.reduction import over_images, poison_of, reduce, sanitize

__all__ = ["LogL1Loss", "MSELoss", "SILogLoss", "log_l1_loss", "mse_loss", "silog_loss"]


def mse_loss(
    pred: Tensor, target: Tensor, mask: Tensor | None = None, *, trim: float = 0.0, reduction: Reduction = "mean"
) -> Tensor:
    """(pred - target)^2 without any normalisation: the plainest way of distilling a map.

    Args:
        pred: (B, H, W) or (B, 1, H, W), floating point, in the target's space, scale and shift; gets the gradient.
        target: same shape; gets no gradient.
        mask: bool of the same shape, True = valid; None = all valid.
        trim, reduction: as in :func:`hybrid_norm_loss`.

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances: adding one number to both maps.

    Degenerate cases: no valid pixel gives 0; non-finite values as in :func:`hybrid_norm_loss`.

    Raises:
        ValueError: wrong shapes, dtypes or options.

    Example:
        >>> mse_loss(torch.zeros(1, 4, 4), torch.full((1, 4, 4), 2.0)).item()
        4.0
    """
    p, d, m = whole_maps(pred, target, mask)
    check_trim(trim)
    check_reduction(reduction)
    p, d, valid, poison = sanitize(p, d, m)
    loss = reduce((p - d).square(), valid, poison, reduction=reduction, trim=trim)
    return loss.view(pred.shape) if reduction == "none" else loss


def silog_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    lam: float = 0.5,
    min_depth: float = 1e-3,
    max_depth: float | None = None,
    floor: float = 1e-6,
    reduction: Reduction = "mean",
) -> Tensor:
    """Scale-invariant logarithmic error of metric depth (Eigen et al. 2014), the loss of metric fine-tuning.

        L = sqrt( mean d^2 - lam (mean d)^2 ),    d = log pred - log target

    ``lam`` decides how much of a common scale error is forgiven: 0 none (the log RMSE), 1 all of it. Publications differ in it,
    and not all name it: Depth Anything V2's metric code has 0.5, others 0.85 or 1.

    Args:
        pred: (B, H, W) or (B, 1, H, W) in metres, floating point; gets the gradient. Values under ``floor`` count as ``floor``
            and get none.
        target: same shape, in metres; gets no gradient.
        mask: bool of the same shape, True = valid; None = all valid.
        lam: in [0, 1].
        min_depth, max_depth: pixels with a *target* outside are left out (Depth Anything V2: 0.001, and 20 or 80); None is
            no limit.
        floor: least depth that the logarithm is taken of, above 0 (not from a paper).
        reduction: ``"mean"``: images' losses averaged over the batch; ``"pixel"``: one set of pixels for the whole batch, as
            published; ``"image"``: (B,). ``"none"`` is refused, since the loss is no sum over pixels.

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances: multiplying both maps by one a > 0 (apart from the limits); with ``lam=1``, pred alone.

    Degenerate cases: no pixel between the limits gives 0; L = 0, where the root has no derivative, gives no gradient;
    non-finite values as in :func:`hybrid_norm_loss`, except that an infinite target beyond a ``max_depth`` is just left out.

    Raises:
        ValueError: wrong shapes, dtypes or options.

    Example:
        >>> metres = torch.tensor([[[1.0, 2.0, 4.0, 8.0]]])
        >>> round(silog_loss(2 * metres, metres).item(), 4)  # sqrt(1 - 0.5) log 2
        0.4901
        >>> silog_loss(2 * metres, metres, lam=1.0).item() < 1e-3  # a common factor is forgiven
        True
    """
    check_silog(lam, min_depth, max_depth, floor, reduction)
    p, d, m = whole_maps(pred, target, mask)
    d = d.detach()
    valid = torch.ones_like(d, dtype=torch.bool) if m is None else m
    valid = valid & ~(d < max(min_depth, 0.0)) & ~(d <= 0)  # NaN stays, and must be seen
    if max_depth is not None:
        valid = valid & ~(d > max_depth)
    poison = poison_of(valid, p, d)
    usable = valid & p.isfinite() & d.isfinite()
    log_pred = torch.where(usable, p, 1).clamp(min=floor).log()
    difference = torch.where(usable, log_pred - torch.where(usable, d, 1).log(), 0)
    if reduction == "pixel":
        difference, usable, poison = difference.reshape(1, -1), usable.reshape(1, -1), poison.sum()[None] / max(len(poison), 1)
    difference, number = difference.flatten(1), usable.flatten(1).sum(1).clamp(min=1)
    mean, square = difference.sum(1) / number, difference.square().sum(1) / number
    variance = square - lam * mean.square()
    positive = variance > 0
    image = torch.where(positive, torch.where(positive, variance, 1).sqrt(), 0) * poison
    return over_images(image, reduction)


def log_l1_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    gradient: float = 0.5,
    scales: int = 3,
    floor: float = 1e-6,
    reduction: Reduction = "mean",
) -> Tensor:
    """Relative error of metric depth: L1 between logarithms, and between their gradients at several scales.

        L = mean |d| + gradient * (multi-scale gradient matching of log pred and log target),    d = log pred - log target

    Args:
        pred: (B, H, W) or (B, 1, H, W) in metres, floating point; gets the gradient. Values under ``floor`` count as ``floor``
            and get none.
        target: same shape, in metres; gets no gradient. Pixels that are not above 0 are left out.
        mask: bool of the same shape, True = valid; None = all valid.
        gradient: factor of the second addend.
        scales: of :func:`gradient_matching_loss`, without normalisation.
        floor: least depth that the logarithm is taken of, above 0.
        reduction: ``"mean"``, ``"pixel"`` or ``"image"``, as in :func:`gradient_matching_loss`.

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances: multiplying both maps by one a > 0 (apart from the floor).

    Degenerate cases: no valid pixel gives 0; non-finite values as in :func:`hybrid_norm_loss`.

    Raises:
        ValueError: wrong shapes, dtypes or options.

    Example:
        >>> metres = torch.tensor([[[1.0, 2.0, 4.0, 8.0]]])
        >>> round(log_l1_loss(2 * metres, metres).item(), 4)  # log 2: a common factor has no gradient
        0.6931
    """
    check_log_l1(gradient, floor, reduction)
    p, d, m = whole_maps(pred, target, mask)
    d = d.detach()
    valid = torch.ones_like(d, dtype=torch.bool) if m is None else m
    valid = valid & ~(d <= 0)
    p, d, valid, poison = sanitize(p, d, valid)
    p, d = (torch.where(valid, x, torch.ones_like(x)).clamp(min=floor).log() for x in (p, d))
    loss = reduce((p - d).abs(), valid, poison, reduction=reduction)
    if gradient:
        loss = loss + gradient * gradient_matching_loss(p, d, valid, scales=scales, normalize=False, reduction=reduction)
    return loss


def check_log_l1(gradient: float, floor: float, reduction: str) -> None:
    """ValueError unless the options are legal."""
    check_reduction(reduction)
    if reduction == "none":
        raise ValueError("log-l1 holds differences between neighbours, which belong to no pixel; reduction must not be 'none'")
    if gradient < 0:
        raise ValueError(f"gradient must not be negative, got {gradient}")
    if not floor > 0:
        raise ValueError(f"floor must be above 0, got {floor}")


def check_silog(lam: float, min_depth: float, max_depth: float | None, floor: float, reduction: str) -> None:
    """ValueError unless the options are legal."""
    check_reduction(reduction)
    if reduction == "none":
        raise ValueError("silog is a deviation over an image's pixels, no sum of theirs; reduction must not be 'none'")
    if not 0 <= lam <= 1:
        raise ValueError(f"lam must be in [0, 1], got {lam}")
    if not floor > 0:
        raise ValueError(f"floor must be above 0, got {floor}")
    if max_depth is not None and not max_depth > min_depth:
        raise ValueError(f"max_depth must be above min_depth, got {max_depth} and {min_depth}")


class MSELoss(Configured):
    """:func:`dadkit.losses.mse_loss`: squared error, no normalisation.

    Example:
        >>> MSELoss()(torch.zeros(1, 4, 4), torch.ones(1, 4, 4)).item()
        1.0
    """

    def __init__(self, *, trim: float = 0.0, reduction: Reduction = "mean") -> None:
        check_trim(trim)
        check_reduction(reduction)
        super().__init__(trim=trim, reduction=reduction)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the loss of ``pred`` against ``target`` where ``mask`` is True."""
        return mse_loss(pred, target, mask, **self.options)


class SILogLoss(Configured):
    """:func:`dadkit.losses.silog_loss`: the loss of metric fine-tuning. Logs call it ``silog-LAM``.

    Args:
        lam: how much of a common scale error is forgiven, in [0, 1].
        min_depth, max_depth: metres between which true depth counts; None is no limit.
        floor: least predicted depth that the logarithm is taken of.
        reduction: as in the functional.

    Example:
        >>> SILogLoss(lam=0.85).label
        'silog-0.85'
    """

    def __init__(
        self,
        *,
        lam: float = 0.5,
        min_depth: float = 1e-3,
        max_depth: float | None = None,
        floor: float = 1e-6,
        reduction: Reduction = "mean",
    ) -> None:
        check_silog(lam, min_depth, max_depth, floor, reduction)
        super().__init__(lam=lam, min_depth=min_depth, max_depth=max_depth, floor=floor, reduction=reduction)

    @property
    def label(self) -> str:
        """``silog-0.5``."""
        return f"silog-{self.options['lam']:g}"

    def check_space(self, space: str) -> None:
        """ValueError unless maps are in metres: the logarithm of an affine value means nothing."""
        if space != "metric":
            raise ValueError(
                f"silog compares logarithms of metres, but the student answers in space '{space}'; give it the space 'metric'"
            )

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the loss of ``pred`` against ``target`` where ``mask`` is True."""
        return silog_loss(pred, target, mask, **self.options)


class LogL1Loss(Configured):
    """:func:`dadkit.losses.log_l1_loss`: relative errors of metres, as completers are trained.

    Args:
        gradient: factor of the gradients' part.
        scales: how many scales of gradients.
        floor: least predicted depth that the logarithm is taken of.
        reduction: as in the functional.

    Example:
        >>> round(LogL1Loss()(torch.full((1, 4, 4), 2.0), torch.ones(1, 4, 4)).item(), 4)
        0.6931
    """

    def __init__(self, *, gradient: float = 0.5, scales: int = 3, floor: float = 1e-6, reduction: Reduction = "mean") -> None:
        check_log_l1(gradient, floor, reduction)
        super().__init__(gradient=gradient, scales=scales, floor=floor, reduction=reduction)

    def check_space(self, space: str) -> None:
        """ValueError unless maps are in metres: the logarithm of an affine value means nothing."""
        if space != "metric":
            raise ValueError(f"log-l1 compares logarithms of metres, but the student answers in space '{space}'")

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the loss of ``pred`` against ``target`` where ``mask`` is True."""
        return log_l1_loss(pred, target, mask, **self.options)
