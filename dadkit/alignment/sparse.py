"""Metres from a relative map and a few points: one global fit in the map's own space, then the residuals spread between points.

=============  ======================================================================================================
points         global step
=============  ======================================================================================================
0              refused
1 to 4         one factor: ratio of medians
5 to 9         scale and shift, with a ridge that pulls the shift to 0
10 and more    scale and shift, then once more without points with a residual beyond three deviations
=============  ======================================================================================================

A metric map, and one known up to a factor, keep their shift, so one factor is fitted whatever the number. A scale <= 0 is
refused in favour of one factor. From five points on, the logarithms of what is left at the points are spread over the map
(``local``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dadkit.alignment.affine import line, ratio_of_medians
from dadkit.alignment.spread import distance_to_points, fill, kriging, membrane, nearest_lines
from dadkit.errors import DadkitError
from dadkit.spaces import Space

__all__ = ["FEW", "MANY", "HintsError", "Keep", "Local", "SparseFit", "align_to_points", "within"]

FEW, MANY = 5, 10
"""From ``FEW`` points on a shift is fitted, from ``MANY`` on outliers are rejected."""
RIDGE = 0.1
BEYOND = 1.5
BEYOND_FEW = 5.0
"""Depth may go beyond the points' range by this factor; by the second with fewer than ``MANY`` points."""
LEAST_JUMP = 0.4
"""A point is no outlier while its depth is within 49 % of its neighbourhood's: true edges are as large."""
PER_CELL = 2
"""Points a cell of the field that outliers are compared with. Of 1, 2, 4 and 8 on real pairs, 2 kept most sound points."""
MOST_KRIGED, GRID = 500, 80
"""Points that kriging takes, spread evenly over all, and cells of the longer side that it works on."""
DENSE, SPARSE = 1.0, 2.5
"""Distances between points, in cells: kriging has no weight up to the first, and all of it from the second on. Cells that hold
several points are too coarse for it."""
FADE = 0.1
"""Logarithm of the depth beyond that of the points at which kriging is gone: of what is far from all points in depth, points
on a desk say nothing."""

KEEPS_SHIFT = (Space.METRIC, Space.SCALE)
"""Spaces of maps that have no shift to find."""

Local = Literal["fill", "poisson", "knn", "kriging", "none"]
Keep = Literal["soft", "exact"]


class HintsError(DadkitError):
    """Sparse points that cannot be used."""


@dataclass(frozen=True, eq=False)
class SparseFit:
    """A relative map brought to metres by sparse points.

    Attributes:
        depth: (B, 1, H, W) float32 metres, positive and finite where the relative map was finite.
        fitted: (B, 1, H, W) float32 metres of the global step alone.
        used: (B, 1, H, W) bool: the points that were kept.
        support: (B, 1, H, W) float32 distance to the nearest kept point, in pixels.
        scale, shift: (B,) float64 of the global step, in the map's own space.
        limits: (B, 2) float64 nearest and farthest depth in metres that the global step may answer.
    """

    depth: Tensor
    fitted: Tensor
    used: Tensor
    support: Tensor
    scale: Tensor
    shift: Tensor
    limits: Tensor


@torch.no_grad()
def align_to_points(
    relative: Tensor,
    space: Space | str,
    depth: Tensor,
    valid: Tensor,
    *,
    sigma: Tensor | None = None,
    local: Local = "fill",
    keep: Keep = "soft",
    max_depth: float | None = None,
) -> SparseFit:
    """Bring each image's map to metres. Everything is computed in float64, each image by itself.

    Args:
        relative: (B, 1, H, W) map of a depth model.
        space: the map's space. ``disparity`` is fitted to inverse metres, all others to metres.
        depth: (B, 1, H, W) metres of the points. Values outside ``valid`` are never read.
        valid: (B, 1, H, W) bool, True at the points.
        sigma: (B, 1, H, W) relative standard deviation of the points; None = all alike.
        local: ``fill`` spreads the residuals by a pyramid, ``poisson`` as a membrane, ``knn`` fits scale and shift anew
            to the five nearest points of each pixel (Prior Depth Anything's rule, with a ridge towards the global fit),
            ``kriging`` weighs points by their distance in place and depth (see :func:`dadkit.alignment.kriging`),
            ``none`` leaves the global fit.
        keep: ``soft`` lets the field smooth the points, ``exact`` writes kept points into the result as they are.
        max_depth: farthest depth in metres; None = 1.5 times the points' 98th percentile, 5 times with fewer than ten points.

    Raises:
        HintsError: an image has no usable point.
    """
    parts = []
    for index in range(len(relative)):
        weight = None if sigma is None else sigma[index, 0]
        try:
            parts.append(
                _align(
                    relative[index, 0].double(), Space(space), depth[index, 0], valid[index, 0], weight, local, keep, max_depth
                )
            )
        except HintsError as error:
            raise HintsError(f"image {index}: {error}" if len(relative) > 1 else str(error)) from None
    maps = [torch.stack([part[k] for part in parts])[:, None] for k in range(4)]  # type: ignore[misc]
    numbers = torch.tensor([part[4] for part in parts], dtype=torch.float64, device=relative.device)
    return SparseFit(maps[0].float(), maps[1].float(), maps[2], maps[3], numbers[:, 0], numbers[:, 1], numbers[:, 2:])


_Part = tuple[Tensor, Tensor, Tensor, Tensor, tuple[float, float, float, float]]


def _align(
    relative: Tensor,
    space: Space,
    depth: Tensor,
    valid: Tensor,
    sigma: Tensor | None,
    local: Local,
    keep: Keep,
    max_depth: float | None,
) -> _Part:
    size = (relative.shape[0], relative.shape[1])
    at = valid.nonzero()
    z = depth[valid].double()
    x = relative[valid]
    known = (z > 0) & z.isfinite() & x.isfinite()
    at, z, x = at[known], z[known], x[known]
    weight = torch.ones_like(z) if sigma is None else sigma[valid][known].double().clamp(min=1e-3).square().reciprocal()
    if len(z) == 0:
        raise HintsError("no point with a depth above 0 is where the model answers; give at least one")
    inverse = space is Space.DISPARITY
    beyond = BEYOND if len(z) >= MANY else BEYOND_FEW
    near = float(z.quantile(0.02)) / beyond
    far = max_depth if max_depth is not None else beyond * float(z.quantile(0.98))

    def metres(values: Tensor, scale: Tensor | float, shift: Tensor | float) -> Tensor:
        fitted = values * scale + shift
        if inverse:
            return fitted.clamp(min=1 / far).reciprocal()
        return fitted.clamp(min=near) if max_depth is None else fitted.clamp(near, far)

    y = z.reciprocal() if inverse else z
    scale, shift = _global(x, y, space)
    residual = z.log() - metres(x, scale, shift).log()
    if len(z) >= MANY:
        kept = (residual - residual.median()).abs() <= 3 * _deviation(residual)
        if space not in KEEPS_SHIFT and int(kept.sum()) >= MANY:
            scale, shift = _global(x[kept], y[kept], space)
            residual = z.log() - metres(x, scale, shift).log()
    weight = _without_outliers(residual, at, weight, size) if len(z) >= MANY else weight
    fitted = metres(relative, scale, shift)
    if local == "knn" and len(z) >= FEW and space not in KEEPS_SHIFT:
        answer = metres(relative, *nearest_lines(x, y, at, weight, size, prior=(scale, shift)))
    else:
        answer = fitted
        if local == "kriging" and len(z) >= FEW:
            answer = answer * _kriged(residual, at, weight, fitted.log()).exp()
        elif local != "none" and len(z) >= FEW:
            spread = membrane if local == "poisson" else fill
            answer = answer * spread(residual, at, weight / weight.max(), size).exp()
    used = torch.zeros_like(valid)
    used[at[:, 0], at[:, 1]] = weight > 0
    if keep == "exact":
        answer = torch.where(used, depth.double(), answer)
    return answer, fitted, used, distance_to_points(at[weight > 0], size), (scale, shift, near, far)


def within(fitted: Tensor, used: Tensor) -> Tensor:
    """(B, 1, H, W): 1 where the global fit is as near or far as the middle 96 % of the points, falling to 0 over ``FADE``.

    Args:
        fitted: (B, 1, H, W) logarithm of the global fit. Values that are not numbers give 0.
        used: (B, 1, H, W) bool, True at the points.
    """
    rows = []
    for log, at in zip(fitted, used, strict=True):
        known = log[at] if bool(at.any()) else log.flatten()
        low, high = known.quantile(torch.tensor([0.02, 0.98], dtype=log.dtype, device=log.device))
        rows.append(1 - torch.maximum(low - log, log - high) / FADE)
    return torch.stack(rows).nan_to_num().clamp(0, 1)


def _kriged(residual: Tensor, at: Tensor, weight: Tensor, fitted: Tensor) -> Tensor:
    """Kriging from some of the points, then filling of what it leaves at all of them. Filling alone where points are dense, and
    beyond their depth."""
    kept = weight > 0
    residual, at, weight, size = residual[kept], at[kept], weight[kept] / weight.max(), (fitted.shape[0], fitted.shape[1])
    filled = fill(residual, at, weight, size)
    apart = GRID / max(size) * math.sqrt(fitted.numel() / len(at))
    if apart <= DENSE:
        return filled
    some = slice(None, None, math.ceil(len(at) / MOST_KRIGED))
    field = kriging(residual[some], at[some], weight[some], fitted.nan_to_num(), cell=max(1, round(max(size) / GRID)))
    used = torch.zeros_like(fitted, dtype=torch.bool)
    used[at[:, 0], at[:, 1]] = True
    rest = fill(residual - field[at[:, 0], at[:, 1]], at, weight, size)
    share = within(fitted[None, None], used[None, None])[0, 0] * min(1.0, (apart - DENSE) / (SPARSE - DENSE))
    return torch.lerp(filled, field + rest, share)


def _global(x: Tensor, y: Tensor, space: Space) -> tuple[float, float]:
    if space not in KEEPS_SHIFT and len(x) >= FEW:
        scale, shift = line(x, y) if len(x) >= MANY else _ridge(x, y)
        if scale > 0:
            return scale, shift
    scale, shift = ratio_of_medians(x, y)
    return (scale, shift) if scale > 0 else (0.0, float(y.median()))


def _ridge(x: Tensor, y: Tensor) -> tuple[float, float]:
    """Scale and shift of least squares with ``RIDGE`` times the squared shift added per point."""
    n = len(x)
    normal = torch.stack((torch.stack((x.dot(x), x.sum())), torch.stack((x.sum(), x.new_tensor(n * (1 + RIDGE))))))
    scale, shift = torch.linalg.lstsq(normal, torch.stack((x.dot(y), y.sum()))[:, None]).solution[:, 0].tolist()
    return scale, shift


def _deviation(values: Tensor) -> float:
    """Standard deviation of normal values, from their median absolute deviation."""
    return 1.4826 * float((values - values.median()).abs().median())


def _without_outliers(residual: Tensor, at: Tensor, weight: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the weights, 0 for points that disagree with the field of a coarse pyramid, which is refitted three times."""
    cell = max(2, 2 ** round(math.log2(math.sqrt(PER_CELL * size[0] * size[1] / len(at)))))
    soft = weight
    for _ in range(3):
        apart = residual - fill(residual, at, soft, size, cell=cell)[at[:, 0], at[:, 1]]
        limit = max(LEAST_JUMP, 4 * _deviation(apart))
        soft = weight / (1 + (apart / (0.5 * limit)).square())
    return torch.where(apart.abs() <= limit, weight, torch.zeros_like(weight))
