"""Bringing an affine-invariant map to the truth's scale, in a declared space, by a closed form in float64."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = ["Affine", "fit_scale", "fit_scale_shift"]


@dataclass(frozen=True, eq=False)
class Affine:
    """``x -> scale * x + shift`` per image.

    Attributes:
        scale: (B,) float64.
        shift: (B,) float64.
    """

    scale: Tensor
    shift: Tensor

    def __call__(self, maps: Tensor) -> Tensor:
        """Apply to (B, H, W) maps; returns float64."""
        return maps.double() * self.scale[:, None, None] + self.shift[:, None, None]


def fit_scale_shift(source: Tensor, target: Tensor, valid: Tensor) -> Affine:
    """Least squares ``min sum (scale * source + shift - target)^2`` over the valid pixels of each image.

    Solved on centred values, so large offsets cost no precision.

    Args:
        source: (B, H, W) predictions; values outside ``valid`` are never read, NaN and infinity included.
        target: (B, H, W) truth in the same space.
        valid: (B, H, W) bool.

    Returns:
        float64 scale and shift, each (B,). A constant prediction gives scale 0 and the truth's mean as shift; an image without
        valid pixels gives scale 0 and shift 0. A negative scale is an honest answer (the prediction is upside down).
    """
    x, y, count = _masked(source, target, valid)
    mean_x, mean_y = x.sum((1, 2)) / count, y.sum((1, 2)) / count
    centred_x = torch.where(valid, x - mean_x[:, None, None], 0.0)
    centred_y = torch.where(valid, y - mean_y[:, None, None], 0.0)
    variance = centred_x.square().sum((1, 2))
    covariance = (centred_x * centred_y).sum((1, 2))
    # A constant map's "variance" is rounding noise of this order; dividing by it would return noise as a scale.
    noise = count * (mean_x.abs() * 1e-12) ** 2
    scale = torch.where(variance > noise, covariance / variance.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    return Affine(scale, mean_y - scale * mean_x)


def fit_scale(source: Tensor, target: Tensor, valid: Tensor) -> Affine:
    """Ratio of medians over the valid pixels of each image, no shift. Arguments and shapes as in :func:`fit_scale_shift`.

    An image without valid pixels, or whose median prediction is 0, gets scale 0.
    """
    nan = torch.nan
    median_x = torch.where(valid, source.double(), nan).flatten(1).nanmedian(1).values
    median_y = torch.where(valid, target.double(), nan).flatten(1).nanmedian(1).values
    scale = torch.where(median_x.abs() > 0, median_y / median_x, 0.0).nan_to_num(0.0)
    return Affine(scale, torch.zeros_like(scale))


def _masked(source: Tensor, target: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    x = torch.where(valid, source.double(), 0.0)
    y = torch.where(valid, target.double(), 0.0)
    return x, y, valid.sum((1, 2)).double().clamp_min(1.0)
