"""Maps and features compared as distributions: over pixels (channel-wise) or over channels (spatial)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dadkit.losses.base import Configured
from dadkit.losses.inputs import check_reduction, compute_dtype
from dadkit.ops.reference import Reduction
from dadkit.ops.reference.reduction import average, over_images, poison_of, reduce

__all__ = ["ChannelWiseLoss", "Divergence", "SpatialLoss", "channel_wise_loss", "spatial_loss"]

Divergence = Literal["kl", "mse"]


def channel_wise_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    tau: float = 1.0,
    divergence: Divergence = "kl",
    reduction: Reduction = "mean",
) -> Tensor:
    """Compares each channel as a distribution over pixels (Shu et al. 2021; Robust Lightweight, where the map is the only
    channel).

        phi(x)_i = exp(x_i / tau) / sum_j exp(x_j / tau)
        kl:   L = tau^2 sum_i phi(target)_i log( phi(target)_i / phi(pred)_i )
        mse:  L = tau^2 sum_i ( phi(target)_i - phi(pred)_i )^2

    averaged over channels. For values with a range that is small against tau, ``kl`` is half the variance of pred - target.
    Once the range is ten times tau it sees only the largest values: near pixels of a disparity map, *far* ones of a depth map.
    So bring maps to a known range first.

    Args:
        pred: (B, H, W) or (B, C, H, W), floating point; gets the gradient.
        target: same shape; gets no gradient.
        mask: bool (B, H, W) or (B, 1, H, W), True = valid, for all channels; None = all valid.
        tau: temperature, above 0.
        divergence: ``"kl"`` (CN + KL) or ``"mse"`` (CN + MSE).
        reduction: ``"mean"``: images' losses averaged over the batch; ``"pixel"``: images weighted by their valid pixels;
            ``"image"``: (B,); ``"none"``: the summands in pred's shape, times an image's number of pixels, so that their mean
            over the valid ones is its loss.

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances: adding a number to pred or to target; not to scale. The gradient g has <g, 1> = 0 per channel.

    Degenerate cases: no valid pixel gives 0; a constant map is the uniform distribution; non-finite values as in
    :func:`hybrid_norm_loss`.

    Raises:
        ValueError: wrong shapes, dtypes or options.

    Example:
        >>> target = torch.rand(1, 4, 4)
        >>> abs(channel_wise_loss(target + 3, target).item()) < 1e-5  # blind to a shift
        True
    """
    p, d, valid = _stacks(pred, target, mask)
    check_tau(tau)
    check_reduction(reduction)
    check_divergence(divergence)
    poison = poison_of(valid, *(x[:, k] for x in (p, d) for k in range(x.shape[1])))
    log_p, log_d = (_log_distribution(x, valid, tau) for x in (p, d))
    phi = log_d.exp()
    each = phi * (log_d - log_p) if divergence == "kl" else (phi - log_p.exp()).square()
    each = tau**2 * torch.where(valid[:, None], each, 0)
    number = valid.flatten(1).sum(1)
    if reduction == "none":
        scaled = each * number[:, None, None, None] * poison[:, None, None, None]
        return torch.where(valid[:, None], scaled, 0).view(pred.shape)
    image = each.flatten(2).sum(2).mean(1) * poison
    if reduction == "pixel":
        return average((image * number).sum(), number.sum())
    return over_images(image, reduction)


def spatial_loss(
    pred: Tensor, target: Tensor, mask: Tensor | None = None, *, tau: float = 1.0, reduction: Reduction = "mean"
) -> Tensor:
    """Compares each pixel's channels as a distribution (SN + KL of Robust Lightweight's ablation): features only.

        L_i = tau^2 KL( softmax_c(target_i / tau) || softmax_c(pred_i / tau) ),    averaged over pixels

    Args:
        pred: (B, C, H, W) with C > 1, floating point; gets the gradient.
        target: same shape; gets no gradient.
        mask: bool (B, H, W) or (B, 1, H, W), True = valid; None = all valid.
        tau: temperature, above 0.
        reduction: as in :func:`hybrid_norm_loss`; ``"none"`` gives (B, H, W).

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances: adding a number to all channels of a pixel.

    Degenerate cases: no valid pixel gives 0; non-finite values as in :func:`hybrid_norm_loss`.

    Raises:
        ValueError: one channel, over which softmax is 1 whatever the value; wrong shapes, dtypes or options.

    Example:
        >>> features = torch.rand(2, 16, 7, 7)
        >>> spatial_loss(features, features).item()
        0.0
    """
    p, d, valid = _stacks(pred, target, mask)
    check_tau(tau)
    check_reduction(reduction)
    if p.shape[1] == 1:
        raise ValueError(
            "spatial_loss compares the channels of each pixel, and a map with one channel has nothing to compare: its softmax "
            "is 1 everywhere and the loss is always 0. Use it on features, or channel_wise_loss on maps."
        )
    poison = poison_of(valid, *(x[:, k] for x in (p, d) for k in range(x.shape[1])))
    keep = valid[:, None] & p.isfinite() & d.isfinite()
    log_p, log_d = (torch.where(keep, x / tau, 0).log_softmax(1) for x in (p, d))
    loss = tau**2 * (log_d.exp() * (log_d - log_p)).sum(1)
    return reduce(loss, valid, poison, reduction=reduction)


def check_tau(tau: float) -> None:
    """ValueError unless ``tau`` is a temperature."""
    if not tau > 0:
        raise ValueError(f"tau must be above 0, got {tau}")


def check_divergence(divergence: str) -> None:
    """ValueError unless ``divergence`` has a name that is known here."""
    if divergence not in ("kl", "mse"):
        raise ValueError(f"divergence must be 'kl' or 'mse', got {divergence!r}")


def _log_distribution(x: Tensor, valid: Tensor, tau: float) -> Tensor:
    """log softmax over the valid pixels of each channel, 0 elsewhere; an image without valid pixels is 0 throughout."""
    some = valid.flatten(1).any(1)[:, None, None]
    counted = (valid | ~some)[:, None] & x.isfinite()
    logits = torch.where(counted, x / tau, 0).masked_fill(~counted, -torch.inf)
    empty = ~counted.flatten(2).any(2)[..., None, None]
    log = logits.masked_fill(empty, 0).flatten(2).log_softmax(2).view(x.shape)
    return torch.where(counted & ~empty, log, 0)


def _stacks(pred: Tensor, target: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """pred and target (B, C, H, W) in the dtype of the computation, target detached, and the mask (B, H, W)."""
    for name, x in (("pred", pred), ("target", target)):
        if not x.is_floating_point():
            raise ValueError(f"{name} must be floating point, got {x.dtype}")
    if pred.shape != target.shape or pred.ndim not in (3, 4) or 0 in pred.shape[1:]:
        raise ValueError(
            f"pred and target must be (B, H, W) or (B, C, H, W) of one shape, got {tuple(pred.shape)} and {tuple(target.shape)}"
        )
    dtype = compute_dtype(pred, target)
    p, d = ((x[:, None] if x.ndim == 3 else x).to(dtype) for x in (pred, target.detach()))
    if mask is None:
        return p, d, torch.ones_like(p[:, 0], dtype=torch.bool)
    wanted = (len(p), *p.shape[2:])
    flat = mask[:, 0] if mask.ndim == 4 and mask.shape[1] == 1 else mask
    if tuple(flat.shape) != wanted or mask.dtype != torch.bool:
        raise ValueError(f"mask must be bool of shape {wanted}, True = valid; got {mask.dtype} of shape {tuple(mask.shape)}")
    return p, d, flat


class ChannelWiseLoss(Configured):
    """:func:`dadkit.losses.channel_wise_loss`: each channel as a distribution over pixels.

    Example:
        >>> ChannelWiseLoss(tau=4.0)(torch.rand(2, 1, 8, 8), torch.rand(2, 1, 8, 8)).shape
        torch.Size([])
    """

    def __init__(self, *, tau: float = 1.0, divergence: Divergence = "kl", reduction: Reduction = "mean") -> None:
        check_tau(tau)
        check_reduction(reduction)
        check_divergence(divergence)
        super().__init__(tau=tau, divergence=divergence, reduction=reduction)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the loss of ``pred`` against ``target``, (B, C, H, W) or (B, H, W), where ``mask`` is True."""
        return channel_wise_loss(pred, target, mask, **self.options)


class SpatialLoss(Configured):
    """:func:`dadkit.losses.spatial_loss`: each pixel's channels as a distribution; features only.

    Example:
        >>> SpatialLoss()(torch.rand(2, 16, 7, 7), torch.rand(2, 16, 7, 7)).shape
        torch.Size([])
    """

    def __init__(self, *, tau: float = 1.0, reduction: Reduction = "mean") -> None:
        check_tau(tau)
        check_reduction(reduction)
        super().__init__(tau=tau, reduction=reduction)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """Returns the loss of ``pred`` against ``target``, (B, C, H, W) with C > 1, where ``mask`` is True."""
        return spatial_loss(pred, target, mask, **self.options)
