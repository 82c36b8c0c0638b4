"""Fits that bring an affine-invariant map to the truth's scale, in a declared space, in float64.

==================== ==============================================================================================
none                 the map as it is
scale                ratio of medians
scale-lstsq          one factor by least squares
scale-shift          factor and offset by least squares
scale-shift-l1       factor and offset by least absolute deviations by reweighting (wild values of the truth hardly move it)
scale-shift-ransac   factor and offset by consensus of random pairs, seeded (wild values on either side)
scale-shift-regions  factor and offset by least squares in each cell of a grid: an upper bound, not a protocol to rank by
==================== ==============================================================================================
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

import torch
from torch import Tensor

__all__ = [
    "FITS",
    "Affine",
    "consensus_line",
    "factor",
    "fit_regions",
    "fit_scale_shift",
    "l1_line",
    "line",
    "per_image",
    "ratio_of_medians",
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
    """Least squares ``min sum w (scale * x + shift - y)^2`` over (n,) float64 values.

    The values are centred first, so large offsets cost no precision. A constant ``x`` gives scale 0 and the mean of ``y`` as
    shift; n = 0, or weights that sum to 0, give 0 and 0. A negative scale is possible (the prediction is upside down).
    """
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
    """Ratio of the medians of (n,) float64 values, and no shift.

    Even counts take the lower of the two middle values. Scale 0 for n = 0, and where the median of ``x`` is 0.
    """
    if x.numel() == 0:
        return 0.0, 0.0
    median = float(x.median())
    return (float(y.median()) / median if median != 0 else 0.0), 0.0


def factor(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Least squares ``min sum (scale * x - y)^2`` over (n,) float64 values, and no shift. Scale 0 where every ``x`` is 0."""
    power = float(torch.dot(x, x))
    return (float(torch.dot(x, y)) / power if power > 0 else 0.0), 0.0


def l1_line(x: Tensor, y: Tensor, *, iterations: int = 50) -> tuple[float, float]:
    """Least absolute deviations ``min sum |scale * x + shift - y|`` over (n,) float64 values, by reweighted least squares.

    Deterministic: it starts from :func:`line` and divides each pixel's weight by its residual, floored at 1e-9 of the mean of
    |y|. Wild values of the *truth* hardly move it; wild values of the prediction are leverage and do (:func:`consensus_line`
    resists both). Degenerate cases as in :func:`line`.
    """
    scale, shift = line(x, y)
    if x.numel() == 0 or scale == 0:
        return scale, shift
    floor = max(1e-9 * float(y.abs().mean()), torch.finfo(torch.float64).tiny)
    for _ in range(iterations):
        residual = (scale * x + shift - y).abs_()
        scale, shift = line(x, y, residual.clamp_min_(floor).reciprocal_().mul_(floor))
    return scale, shift


def consensus_line(
    x: Tensor, y: Tensor, *, trials: int = 256, tolerance: float = 0.05, max_pixels: int = 4096, seed: int = 0
) -> tuple[float, float]:
    """Least squares over the largest set of (n,) values on which one line through two random pixels agrees (RANSAC).

    A pixel agrees if its residual is at most ``tolerance`` times the median of |y|. The same random fractions are drawn for
    every image, so the result depends on the image and the seed alone. Degenerate cases as in :func:`line`, which is also the
    result where no pair of pixels differs.

    Args:
        x: predictions.
        y: truth in the same space.
        trials: pairs tried.
        tolerance: largest residual that agrees, relative to the median of |y|.
        max_pixels: pixels on which agreement is counted, taken evenly; the final fit uses all.
        seed: of the draws.
    """
    if x.numel() < 2:
        return line(x, y)
    first, second = (_fractions(trials, seed).to(x.device) * x.numel()).long().unbind(1)
    run = x[second] - x[first]
    usable = run.abs() > 1e-12 * x.abs().max()
    if not usable.any():
        return line(x, y)
    scale = (y[second] - y[first])[usable] / run[usable]
    shift = y[first][usable] - scale * x[first][usable]
    limit = tolerance * y.abs().median()
    every = max(1, x.numel() // max_pixels)
    votes = ((scale[:, None] * x[::every] + shift[:, None] - y[::every]).abs() <= limit).sum(1)
    best = int(votes.argmax())
    agree = (scale[best] * x + shift[best] - y).abs() <= limit
    return line(x[agree], y[agree])


@lru_cache(maxsize=8)
def _fractions(trials: int, seed: int) -> Tensor:
    return torch.rand(trials, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


FITS = MappingProxyType(
    {
        "scale": ratio_of_medians,
        "scale-lstsq": factor,
        "scale-shift": line,
        "scale-shift-l1": l1_line,
        "scale-shift-ransac": consensus_line,
    }
)
"""Name of an alignment -> its function of (n,) float64 values. ``none`` and ``scale-shift-regions`` are not among them."""


def per_image(fit: Fit, source: Tensor, target: Tensor, valid: Tensor) -> Affine:
    """``fit`` on the valid pixels of each image of (B, H, W) maps."""
    fits = [fit(source[i][valid[i]].double(), target[i][valid[i]].double()) for i in range(source.shape[0])]
    values = torch.tensor(fits, dtype=torch.float64, device=source.device).reshape(-1, 2)
    return Affine(values[:, 0].clone(), values[:, 1].clone())


def fit_scale_shift(source: Tensor, target: Tensor, valid: Tensor) -> Affine:
    """Least squares ``min sum (scale * source + shift - target)^2`` over the valid pixels of each image (:func:`line`).

    Args:
        source: (B, H, W) predictions; values outside ``valid`` are never read, NaN and infinity included.
        target: (B, H, W) truth in the same space.
        valid: (B, H, W) bool.

    Returns:
        float64 scale and shift, each (B,). A constant prediction gives scale 0 and the truth's mean as shift; an image without
        valid pixels gives scale 0 and shift 0. A negative scale is possible (the prediction is upside down).
    """
    return per_image(line, source, target, valid)


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
