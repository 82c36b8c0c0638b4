"""Simulated sparse points of true depth: what sensors, reconstructions and people know of a scene."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.errors import DataError
from dadkit.interfaces import Hints

__all__ = ["PATTERNS", "generator_for", "lidar_lines", "simulate"]

LINES = (4, 64)
"""Fewest and most lines of the pattern ``lines``, drawn evenly on a logarithmic scale."""
PARALLAX = 0.03
"""Largest shift of a point that is seen past an edge, as a share of the picture's width."""

Choose = Callable[[Tensor, Tensor, Tensor, int, torch.Generator], Tensor]


def simulate(
    depth: Tensor,
    valid: Tensor,
    image: Tensor,
    *,
    pattern: str,
    points: int,
    generator: torch.Generator,
    noise: float = 0.0,
    outliers: float = 0.0,
    see_through: float = 0.0,
) -> Hints:
    """Points of one picture with the errors of a sensor.

    Args:
        depth: (H, W) true metres.
        valid: (H, W) bool, True where the depth is known.
        image: (3, H, W) of any dtype; key points are looked for in it.
        pattern: where points are; a key of :data:`PATTERNS`.
        points: how many at most. A picture with fewer pixels to choose from gives fewer.
        generator: what is drawn from.
        noise: relative standard deviation of every depth.
        outliers: share of points whose depth is multiplied by a factor of 0.30 to 0.61 or 1.65 to 3.3.
        see_through: share of points that take the depth of a neighbour up to 3 % of the width away, if that is farther: a
            sensor beside the camera looks past edges.

    Returns:
        Hints of batch size 1. None is valid if the picture has no known depth.

    Raises:
        DataError: there is no such pattern.

    Example:
        >>> depth = torch.linspace(1, 5, 48).expand(36, 48)
        >>> hints = simulate(depth, depth > 0, torch.zeros(3, 36, 48), pattern="uniform", points=20,
        ...                  generator=torch.Generator().manual_seed(0))
        >>> int(hints.valid.sum())
        20
    """
    if pattern not in PATTERNS:
        raise DataError(f"there is no pattern of points '{pattern}'; take one of {', '.join(PATTERNS)}")
    size = (depth.shape[0], depth.shape[1])
    known = valid & depth.isfinite() & (depth > 0)
    at = PATTERNS[pattern](known, depth, image, points, generator)
    source = at.clone()
    if see_through:
        shift = (2 * _uniform(at, generator) - 1) * PARALLAX * size[1]
        shift = torch.where(_uniform(at, generator) < see_through, shift, torch.zeros_like(shift))
        source[:, 1] = (at[:, 1] + shift).round().long().clamp(0, size[1] - 1)
        seen = known[source[:, 0], source[:, 1]] & (depth[source[:, 0], source[:, 1]] > depth[at[:, 0], at[:, 1]])
        source = torch.where(seen[:, None], source, at)
    z = depth[source[:, 0], source[:, 1]].double()
    z = z * torch.exp(noise * torch.randn(len(z), generator=generator, dtype=torch.float64))
    wild = _uniform(at, generator) < outliers
    sign = torch.where(_uniform(at, generator) < 0.5, -1.0, 1.0)
    factor = torch.exp(sign * (0.5 + 0.7 * _uniform(at, generator)))
    z = torch.where(wild, z * factor, z)
    return Hints.from_points(torch.stack((at[:, 1].double(), at[:, 0].double(), z), 1), size)


def lidar_lines(hints: Hints, intrinsics: Tensor, lines: int, *, of: int = 64) -> Hints:
    """Returns a part of a LiDAR's lines, as a cheaper sensor has them: points are sorted into lines by elevation, as OMNI-DC
    does.

    Args:
        hints: of batch size 1, a sweep of a spinning LiDAR.
        intrinsics: (3, 3) camera in pixels of the picture.
        lines: how many to keep, evenly.
        of: how many lines the elevations between the lowest and the highest point are.

    Raises:
        DataError: ``lines`` is not between 1 and ``of``.
    """
    if not 1 <= lines <= of:
        raise DataError(f"lines must be between 1 and {of}, got {lines}")
    at = hints.valid[0, 0].nonzero()
    if lines == of or not len(at):
        return hints
    row, column = (at.double() + 0.5).unbind(1)
    camera = intrinsics.double()
    x, y = (column - camera[0, 2]) / camera[0, 0], (row - camera[1, 2]) / camera[1, 1]
    elevation = torch.atan2(y, (1 + x.square()).sqrt())
    low, high = elevation.min(), elevation.max()
    line = ((elevation - low) / (high - low).clamp(min=1e-9) * of).round().long()
    kept = torch.zeros(of + 1, dtype=torch.bool).index_fill_(0, (torch.arange(lines) * of / lines).long(), True)
    valid = torch.zeros_like(hints.valid)
    valid[0, 0, at[:, 0], at[:, 1]] = kept.to(at.device)[line]
    return Hints(hints.depth, valid, hints.sigma)


def generator_for(*parts: str | int) -> torch.Generator:
    """Returns a generator whose numbers depend on these parts alone: a seed, the key of an image, a position."""
    digest = hashlib.sha256("\0".join(map(str, parts)).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)


def _uniform(at: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(at), generator=generator, dtype=torch.float64)


def _number(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=generator))


def _some(allowed: Tensor, points: int, generator: torch.Generator) -> Tensor:
    """Rows and columns of so many of the allowed pixels."""
    at = allowed.nonzero()
    return at[torch.randperm(len(at), generator=generator)[:points]]


def _even(known: Tensor, depth: Tensor, image: Tensor, points: int, generator: torch.Generator) -> Tensor:
    return _some(known, points, generator)


def _key_points(known: Tensor, depth: Tensor, image: Tensor, points: int, generator: torch.Generator) -> Tensor:
    grey = image.double().mean(0)[None, None]
    gradient = F.conv2d(F.pad(grey, (1, 1, 1, 1), mode="replicate"), _SOBEL.to(grey), padding=0)
    xx, xy, yy = (F.avg_pool2d(part, 5, 1, 2) for part in (gradient[:, :1] ** 2, gradient.prod(1, True), gradient[:, 1:] ** 2))
    corner = ((xx + yy) / 2 - (((xx - yy) / 2).square() + xy.square()).sqrt())[0, 0]
    peak = (corner == F.max_pool2d(corner[None, None], 5, 1, 2)[0, 0]) & (corner > 1e-4 * corner.max()) & known
    at = peak.nonzero()
    at = at[corner[peak].argsort(descending=True, stable=True)[:points]]
    return at if len(at) >= min(points, FEWEST_KEY_POINTS) else _some(known, points, generator)


def _lines(known: Tensor, depth: Tensor, image: Tensor, points: int, generator: torch.Generator) -> Tensor:
    height, width = known.shape
    lines = round(math.exp(_number(math.log(LINES[0]), math.log(LINES[1]), generator)))
    lines = max(1, min(lines, points, height // 2))
    rows = (torch.arange(lines) + _number(0, 1, generator)) * (height / lines)
    tilt = _number(-0.03, 0.03, generator) * (torch.arange(width) - width / 2)
    row = (rows[:, None] + tilt).round().long().clamp(0, height - 1)
    on_line = torch.zeros_like(known).scatter_(0, row, torch.ones((), dtype=torch.bool).expand(row.shape))
    return _some(known & on_line, points, generator)


def _low_resolution(known: Tensor, depth: Tensor, image: Tensor, points: int, generator: torch.Generator) -> Tensor:
    height, width = known.shape
    step = max(1.0, math.sqrt(height * width / points))
    rows, columns = (
        ((torch.arange(max(1, int(side / step))) + 0.5) * step).long().clamp(max=side - 1) for side in (height, width)
    )
    at = torch.cartesian_prod(rows, columns)
    return at[known[at[:, 0], at[:, 1]]][:points]


def _holes(known: Tensor, depth: Tensor, image: Tensor, points: int, generator: torch.Generator) -> Tensor:
    height, width = known.shape
    rows, columns = torch.meshgrid(torch.linspace(0, 1, height), torch.linspace(0, 1, width), indexing="ij")
    kept = known.clone()
    for _ in range(int(_number(2, 6, generator))):
        y, x = _number(0, 1, generator), _number(0, 1, generator)
        a, b = _number(0.1, 0.35, generator), _number(0.1, 0.35, generator)
        kept &= ((rows - y) / a).square() + ((columns - x) / b).square() > 1
    return _some(kept if bool(kept.any()) else known, points, generator)


def _half(known: Tensor, depth: Tensor, image: Tensor, points: int, generator: torch.Generator) -> Tensor:
    height, width = known.shape
    kept = known.clone()
    side = int(_number(0, 4, generator))
    if side < 2:
        kept[:, : width // 2] &= side == 0
        kept[:, width // 2 :] &= side == 1
    else:
        kept[: height // 2] &= side == 2
        kept[height // 2 :] &= side == 3
    return _some(kept if bool(kept.any()) else known, points, generator)


def _clusters(known: Tensor, depth: Tensor, image: Tensor, points: int, generator: torch.Generator) -> Tensor:
    at = known.nonzero()
    if not len(at):
        return at
    centres = at[torch.randint(len(at), (int(_number(2, 9, generator)),), generator=generator)]
    spread = _number(0.03, 0.12, generator) * known.shape[1]
    density = torch.exp(-torch.cdist(at.float(), centres.float()).square() / (2 * spread**2)).sum(1) + 0.01
    return at[torch.multinomial(density, min(points, len(at)), generator=generator)]


def _range(known: Tensor, depth: Tensor, image: Tensor, points: int, generator: torch.Generator) -> Tensor:
    share = _number(0.3, 0.7, generator)
    values = depth[known].sort().values
    if not len(values):
        return known.nonzero()
    return _some(known & (depth <= values[int(share * (len(values) - 1))]), points, generator)


FEWEST_KEY_POINTS = 20
_SOBEL = torch.tensor([[[[-1.0, 0, 1], [-2, 0, 2], [-1, 0, 1]]], [[[-1.0, -2, -1], [0, 0, 0], [1, 2, 1]]]]) / 8

PATTERNS: Mapping[str, Choose] = {
    "uniform": _even,
    "keypoints": _key_points,
    "clusters": _clusters,
    "lines": _lines,
    "low-resolution": _low_resolution,
    "holes": _holes,
    "half": _half,
    "range": _range,
}
"""Name -> which pixels are points:

* ``uniform``: anywhere;
* ``keypoints``: the strongest corners of the picture (Shi and Tomasi); anywhere if it has fewer than 20;
* ``clusters``: most of them in 2 to 8 places, as structure from motion finds them on the objects with texture;
* ``lines``: 4 to 64 lines of a LiDAR, a little tilted;
* ``low-resolution``: the centres of square cells, as a phone's sensor gives them;
* ``holes``: anywhere but in 2 to 5 large ellipses;
* ``half``: in the left, right, upper or lower half;
* ``range``: on the nearest 30 to 70 % of the pixels.
"""
