"""Bringing an affine-invariant map to the truth's scale, in a declared space, by closed forms in float64.

==================== ==============================================================================================
none                 the map as it is
scale                ratio of medians
scale-lstsq          one factor by least squares
scale-shift          factor and offset by least squares
scale-shift-l1       factor and offset by least absolute deviations (:mod:`dadkit.evaluation.robust`)
scale-shift-ransac   factor and offset by consensus of random pairs, seeded (:mod:`dadkit.evaluation.robust`)
scale-shift-regions  factor and offset by least squares in each cell of a grid: an upper bound, not a protocol to rank by
==================== ==============================================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

__all__ = [
    "Affine",
    "fit_regions",
    "fit_scale",
    "fit_scale_lstsq",
    "fit_scale_shift",
    "line",
    "per_image",
    "vector_fits",
]


@dataclass(frozen=True, eq=False)
class Affine:
    """``x -> scale * x + shift`` per image, or per pixel where regions were fitted.

    Attributes:
        scale: (B,) or (B, H, W) float64.
        shift: the same shape.
    """

    scale: Tensor
    shift: Tensor

    def __call__(self, maps: Tensor) -> Tensor:
        """Apply to (B, H, W) maps; returns float64."""
        scale, shift = (x if x.ndim == 3 else x[:, None, None] for x in (self.scale, self.shift))
        return maps.double() * scale + shift


Fit = Callable[[Tensor, Tensor], tuple[float, float]]
"""Scale and shift that bring (n,) float64 values to (n,) others."""


def line(x: Tensor, y: Tensor, weight: Tensor | None = None) -> tuple[float, float]:
    """Scale and shift of least squares between (n,) float64 values; see :func:`fit_scale_shift`."""
    if x.numel() == 0:
        return 0.0, 0.0
    if weight is None:
        mean_x, mean_y, count = float(x.mean()), float(y.mean()), float(x.numel())
        dx = x - mean_x
        # dx sums to 0, so that y need not be centred too: the rounding that is left is of the order of n eps^2.
        variance, covariance = float(torch.dot(dx, dx)), float(torch.dot(dx, y) - dx.sum() * mean_y)
    else:
        count = float(weight.sum())
        if not count > 0:
            return 0.0, 0.0
        mean_x, mean_y = float(torch.dot(weight, x)) / count, float(torch.dot(weight, y)) / count
        dx = x - mean_x
        weighted = weight * dx
        variance, covariance = float(torch.dot(weighted, dx)), float(torch.dot(weighted, y) - weighted.sum() * mean_y)
    # A constant map's "variance" is rounding noise of this order; dividing by it would return noise as a scale.
    noise = count * (abs(mean_x) * 1e-12) ** 2
    scale = covariance / variance if variance > noise else 0.0
    return scale, mean_y - scale * mean_x


def ratio_of_medians(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Scale between (n,) float64 values; see :func:`fit_scale`."""
    if x.numel() == 0:
        return 0.0, 0.0
    median = float(x.median())
    return (float(y.median()) / median if median != 0 else 0.0), 0.0


def factor(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Scale of least squares between (n,) float64 values; see :func:`fit_scale_lstsq`."""
    power = float(torch.dot(x, x))
    return (float(torch.dot(x, y)) / power if power > 0 else 0.0), 0.0


def fit_scale_shift(source: Tensor, target: Tensor, valid: Tensor, weight: Tensor | None = None) -> Affine:
    """Least squares ``min sum w (scale * source + shift - target)^2`` over the valid pixels of each image.

    Solved on centred values, so large offsets cost no precision.

    Args:
        source: (B, H, W) predictions; values outside ``valid`` are never read, NaN and infinity included.
        target: (B, H, W) truth in the same space.
        valid: (B, H, W) bool.
        weight: (B, H, W) weights >= 0, or None for 1.

    Returns:
        float64 scale and shift, each (B,). A constant prediction gives scale 0 and the truth's mean as shift; an image without
        valid pixels gives scale 0 and shift 0. A negative scale is an honest answer (the prediction is upside down).
    """
    if weight is None:
        return per_image(line, source, target, valid)
    weights = iter(weight[index][valid[index]].double() for index in range(len(weight)))
    return per_image(lambda x, y: line(x, y, next(weights)), source, target, valid)


def fit_scale(source: Tensor, target: Tensor, valid: Tensor) -> Affine:
    """Ratio of medians over the valid pixels of each image, no shift. Arguments and shapes as in :func:`fit_scale_shift`.

    Even counts take the lower of the two middle values. An image without valid pixels, or whose median prediction is 0, gets
    scale 0.
    """
    return per_image(ratio_of_medians, source, target, valid)


def fit_scale_lstsq(source: Tensor, target: Tensor, valid: Tensor) -> Affine:
    """Least squares ``min sum (scale * source - target)^2``, no shift. Arguments and shapes as in :func:`fit_scale_shift`.

    An image without valid pixels, or whose prediction is 0 on all of them, gets scale 0.
    """
    return per_image(factor, source, target, valid)


def fit_regions(source: Tensor, target: Tensor, valid: Tensor, *, grid: tuple[int, int] = (4, 4)) -> Affine:
    """Least-squares scale and shift in each cell of a grid over the map. Arguments as in :func:`fit_scale_shift`.

    A cell without two valid pixels takes the whole image's fit. Cells are cut at rounded fractions of the sides.

    Returns:
        scale and shift (B, H, W), constant within a cell.
    """
    height, width = source.shape[-2:]
    whole = fit_scale_shift(source, target, valid)
    scale = whole.scale[:, None, None].repeat(1, height, width)
    shift = whole.shift[:, None, None].repeat(1, height, width)
    rows = [round(height * k / grid[0]) for k in range(grid[0] + 1)]
    columns = [round(width * k / grid[1]) for k in range(grid[1] + 1)]
    for top, bottom in itertools.pairwise(rows):
        for left, right in itertools.pairwise(columns):
            cell = (slice(None), slice(top, bottom), slice(left, right))
            fit = fit_scale_shift(source[cell], target[cell], valid[cell])
            enough = (valid[cell].sum((1, 2)) >= 2)[:, None, None]
            scale[cell] = torch.where(enough, fit.scale[:, None, None], scale[cell])
            shift[cell] = torch.where(enough, fit.shift[:, None, None], shift[cell])
    return Affine(scale, shift)


def vector_fits() -> Mapping[str, Fit]:
    """Name of an alignment -> its function of (n,) values. ``none`` and ``scale-shift-regions`` are not among them."""
    from dadkit.evaluation.robust import consensus_line, l1_line

    return {
        "scale": ratio_of_medians,
        "scale-lstsq": factor,
        "scale-shift": line,
        "scale-shift-l1": l1_line,
        "scale-shift-ransac": consensus_line,
    }


def per_image(fit: Fit, source: Tensor, target: Tensor, valid: Tensor) -> Affine:
    """``fit`` on the valid pixels of each image of (B, H, W) maps."""
    fits = [fit(source[i][valid[i]].double(), target[i][valid[i]].double()) for i in range(source.shape[0])]
    values = torch.tensor(fits, dtype=torch.float64, device=source.device).reshape(-1, 2)
    return Affine(values[:, 0].clone(), values[:, 1].clone())
