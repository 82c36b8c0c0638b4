"""Fields from values at scattered pixels: what fills the space between sparse points.

Fields are computed in cells of a few pixels and interpolated, so their cost follows the number of pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["distance_to_points", "fill", "kriging", "membrane", "nearest_lines"]

TRUST = 0.25
"""Weight of a coarser level against one point of weight 1 in a cell."""


def fill(values: Tensor, at: Tensor, weight: Tensor, size: tuple[int, int], *, cell: int = 2) -> Tensor:
    """Spread values by a pyramid: each level averages the points near it and asks the next coarser level for the rest.

    The result is close to inverse-distance weighting with the fourth power of the distance. It equals a point's value near the
    point, varies smoothly between points and tends to the weighted mean of all values far from them.

    Args:
        values: (n,) float64.
        at: (n, 2) int64 rows and columns in the map.
        weight: (n,) float64 weights >= 0.
        size: (H, W) of the map.
        cell: points are first averaged in cells of this many pixels. Fields between points are smooth, so 2 loses nothing.

    Returns:
        (H, W) float64. 0 everywhere if no point has a positive weight.
    """
    levels = [_binned(values, at, weight, size, cell)]
    if not bool((levels[0][1] > 0).any()):
        return torch.zeros(size, dtype=torch.float64, device=values.device)
    while max(levels[-1].shape[-2:]) > 1:
        height, width = levels[-1].shape[-2:]
        levels.append(4 * F.avg_pool2d(F.pad(levels[-1], (0, width % 2, 0, height % 2)), 2))
    kernel = torch.tensor([1.0, 2.0, 1.0], dtype=torch.float64, device=values.device) / 2
    kernel = (kernel[:, None] * kernel).expand(2, 1, 3, 3)
    field = levels[-1][:1] / levels[-1][1:]
    for level in levels[-2::-1]:
        height, width = level.shape[-2:]
        coarse = F.interpolate(field[None], scale_factor=2, mode="bilinear", align_corners=False)[0, :, :height, :width]
        total, count = F.conv2d(level[None], kernel, padding=1, groups=2)[0].split(1)
        field = (total + TRUST * coarse) / (count + TRUST)
    return _enlarge(field, size, cell)


def membrane(
    values: Tensor, at: Tensor, weight: Tensor, size: tuple[int, int], *, stiffness: float = 5.0, iterations: int = 40
) -> Tensor:
    """Spread values as a membrane: ``min sum |grad f|^2 + stiffness * sum_i weight_i (f(p_i) - v_i)^2``.

    Added to the logarithm of a map, this is the Poisson completion of the map: its log-gradients stay, the points are soft
    anchors. Conjugate gradients on cells of four pixels start from :func:`fill`.

    Args:
        values, at, weight, size: as for :func:`fill`.
        stiffness: pull of a point of weight 1 against the smoothness.
        iterations: of conjugate gradients.

    Returns:
        (H, W) float64. 0 everywhere if no point has a positive weight.
    """
    cell = 4
    wanted, pull = stiffness * _binned(values, at, weight, size, cell)
    field = F.interpolate(fill(values, at, weight, size)[None, None], pull.shape, mode="bilinear", align_corners=False)[0, 0]

    def apply(f: Tensor) -> Tensor:
        out = pull * f
        down, across = f[1:] - f[:-1], f[:, 1:] - f[:, :-1]
        out[1:] += down
        out[:-1] -= down
        out[:, 1:] += across
        out[:, :-1] -= across
        return out

    residual = wanted - apply(field)
    direction, power = residual, residual.square().sum()
    end = 1e-12 * wanted.square().sum()
    for _ in range(iterations):
        if power <= end:
            break
        moved = apply(direction)
        step = power / (direction * moved).sum()
        field, residual = field + step * direction, residual - step * moved
        power, before = residual.square().sum(), power
        direction = residual + (power / before) * direction
    return _enlarge(field[None], size, cell)


def nearest_lines(
    x: Tensor,
    y: Tensor,
    at: Tensor,
    weight: Tensor,
    size: tuple[int, int],
    *,
    prior: tuple[float, float],
    neighbours: int = 5,
    ridge: float = 0.01,
    cell: int = 4,
) -> tuple[Tensor, Tensor]:
    """Scale and shift of each pixel by weighted least squares over its nearest points, weighted by inverse distance.

    The cost follows pixels x points / cell^2, unlike the other functions here.

    Args:
        x, y: (n,) float64 values of the map and the wanted ones.
        at, weight, size: as for :func:`fill`.
        prior: scale and shift of the whole map. Neighbours that leave the slope free take it from here.
        neighbours: points of each fit.
        ridge: pull of the prior, relative to the whole map's variance of ``x``.
        cell: fits are made in cells of this many pixels and interpolated.

    Returns:
        scale and shift, each (H, W) float64.
    """
    known = weight > 0
    x, y, at, weight = x[known], y[known] - prior[0] * x[known] - prior[1], at[known].double(), weight[known]
    rows, columns = ((torch.arange(math.ceil(side / cell), device=at.device) + 0.5) * cell - 0.5 for side in size)
    centres = torch.cartesian_prod(rows, columns).double()
    parts = []
    for part in centres.split(4096):
        distance, index = torch.cdist(part, at).topk(min(neighbours, len(at)), largest=False)
        w = weight[index] / (distance + 1)
        w = w / w.sum(1, keepdim=True)
        px, py = x[index], y[index]
        mean_x, mean_y = (w * px).sum(1), (w * py).sum(1)
        dx = px - mean_x[:, None]
        pull = ridge * x.var(correction=0) + 1e-300
        slope = (w * dx * py).sum(1) / ((w * dx.square()).sum(1) + pull)
        parts.append(torch.stack((slope, mean_y - slope * mean_x)))
    fields = torch.cat(parts, 1).view(2, 1, len(rows), len(columns))
    scale, shift = (_enlarge(field, size, cell) for field in fields)
    return scale + prior[0], shift + prior[1]


def kriging(values: Tensor, at: Tensor, weight: Tensor, over: Tensor, *, nugget: float = 0.03, cell: int = 1) -> Tensor:
    """Spread values by kriging: Gaussian-process regression over place and over a map, the logarithm of a depth.

    The covariance of two pixels is ``1 + exp(-a / 1.5) + exp(-b^2 / 2) / 2``. The distance ``a`` is taken over row and column,
    from -1 to 1, and half the map, ``b`` over row and map; the map is standardised by its values at the points and ends at
    their 2nd and 98th percentile. So a point counts more for the surface it is on than for one behind it, and what pixels of
    one depth and height have in common reaches places that are far from every point.

    Source: Rasmussen and Williams, Gaussian Processes for Machine Learning (2006), algorithm 2.1; the covariance is ours.

    Args:
        values, at, weight: as for :func:`fill`. The cost grows with the number of cells times
            that of the points, and with the cube of the points: 500 points on 80 x 60 cells take 17 ms of a core.
        over: (H, W) float64 map.
        nugget: variance of a point of the largest weight, where values have a variance of about 2.5.
        cell: the field is computed in cells of this many pixels and interpolated.

    Returns:
        (H, W) float64, to the precision of float32. 0 everywhere if no point has a positive weight.
    """
    known = weight > 0
    if not bool(known.any()):
        return torch.zeros_like(over)
    values, at, weight = values[known], at[known] // cell, weight[known]
    cells = over if cell == 1 else F.avg_pool2d(over[None, None], cell, ceil_mode=True)[0, 0]
    height, width = cells.shape
    points = at[:, 0] * width + at[:, 1]
    there = cells.flatten()[points]
    low, high = there.quantile(torch.tensor([0.02, 0.98], dtype=over.dtype, device=over.device))
    level = (cells.clamp(low, high) - there.mean()) / (there.std(correction=0) + 0.05)
    row, column = (
        (torch.arange(side, dtype=over.dtype, device=over.device) + 0.5) * (2 / side) - 1 for side in (height, width)
    )
    axes = torch.stack((row[:, None].expand_as(cells), column.expand_as(cells), level), -1).view(-1, 3)
    place, row_and_level = axes * axes.new_tensor([1, 1, 0.5]), axes[:, [0, 2]]
    half = row_and_level.square().sum(1, keepdim=True) / -2
    # The product of a pixel's row and a point's is -b^2 / 2.
    left, right = torch.cat((row_and_level, half, half.new_ones(half.shape)), 1), [0, 1, 3, 2]

    def covariance(pixels: Tensor | slice, dtype: torch.dtype) -> Tensor:
        a = torch.cdist(place[pixels].to(dtype), place[points].to(dtype), compute_mode="donot_use_mm_for_euclid_dist")
        b = left[pixels].to(dtype) @ left[points][:, right].to(dtype).T
        return a.div_(-1.5).exp_().add_(b.exp_(), alpha=0.5).add_(1)

    among = covariance(points, over.dtype) + torch.diag(nugget * weight.max() / weight)
    solved = torch.cholesky_solve(values[:, None], torch.linalg.cholesky(among)).float()
    # The system needs float64; a sum over points does not, and takes a quarter of the time without.
    parts = [covariance(slice(first, first + 512), torch.float32) @ solved for first in range(0, height * width, 512)]
    field = torch.cat(parts).to(over.dtype).view(1, height, width)
    return _enlarge(field, (over.shape[0], over.shape[1]), cell)


def distance_to_points(at: Tensor, size: tuple[int, int], *, cell: int = 4) -> Tensor:
    """Distance in pixels from each pixel to the nearest point.

    Args:
        at: (n, 2) int64 rows and columns.
        size: (H, W) of the map.
        cell: the distance is measured from the centres of cells of this many pixels and interpolated, so it is off by about
            half a cell.

    Returns:
        (H, W) float32. Infinite everywhere without points.
    """
    rows, columns = ((torch.arange(math.ceil(side / cell), device=at.device) + 0.5) * cell - 0.5 for side in size)
    best = torch.full((len(rows), len(columns)), math.inf, device=at.device)
    # The nearest point of a cell is the nearest of its rows' nearest columns: two passes of one dimension each.
    if len(at):
        across = torch.full((size[0], len(columns)), math.inf, device=at.device)
        squared = (at[:, 1, None] - columns).square()
        across.scatter_reduce_(0, at[:, :1].expand(-1, len(columns)), squared, "amin")
        filled = across.isfinite().any(1).nonzero()[:, 0]
        for part in filled.split(64):
            best = torch.minimum(best, ((part[:, None] - rows).square()[..., None] + across[part][:, None]).amin(0))
    return _enlarge(best.sqrt()[None], size, cell)


def _binned(values: Tensor, at: Tensor, weight: Tensor, size: tuple[int, int], cell: int) -> Tensor:
    """Sums of weight x value and of weight in cells of ``cell`` x ``cell`` pixels: (2, h, w)."""
    cells = (math.ceil(size[0] / cell), math.ceil(size[1] / cell))
    place = (at[:, 0] // cell) * cells[1] + at[:, 1] // cell
    sums = torch.zeros(2, cells[0] * cells[1], dtype=torch.float64, device=values.device)
    sums.index_add_(1, place, torch.stack((weight * values, weight)))
    return sums.view(2, *cells)


def _enlarge(field: Tensor, size: tuple[int, int], cell: int) -> Tensor:
    """Returns a (1, h, w) field of cells at the map's size."""
    large = F.interpolate(field[None], scale_factor=cell, mode="bilinear", align_corners=False)[0, 0]
    return large[: size[0], : size[1]]
