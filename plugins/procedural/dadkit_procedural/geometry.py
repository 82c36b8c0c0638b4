"""Where rays meet solids, and how far points are from them, in closed form.

Every function broadcasts: a solid's numbers and a ray's numbers may be scalars or arrays of any broadcastable shapes, so the
same formula serves one solid against a window of pixels, all solids against a coarse grid, and blocks of points against their
possible occluders. Coordinates are local to the solid; vectors are three arrays, or one array whose first axis is 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dadkit_procedural.scene import Kind, Primitives

__all__ = ["interval", "signed_distance", "to_local"]

Triple = Sequence[Any] | NDArray[Any]
_TINY = np.float32(1e-20)  # keeps 1/d finite where a ray is parallel to a face; changes no other value


def interval(kind: Kind, origin: Triple, direction: Triple, half: Triple) -> tuple[Any, Any]:
    """The ray parameters at which ``origin + t direction`` enters and leaves the solid; entry > exit where it misses."""
    if kind is Kind.BOX:
        return _box(origin, direction, half)
    if kind is Kind.ELLIPSOID:
        return _ellipsoid(origin, direction, half)
    return _cone(origin, direction, half)


def _slab(origin: Any, direction: Any, half: Any) -> tuple[Any, Any]:
    inverse = 1.0 / (direction + _TINY)
    middle = inverse * -origin
    reach = np.abs(inverse) * half
    return middle - reach, middle + reach


def _box(origin: Triple, direction: Triple, half: Triple) -> tuple[Any, Any]:
    near, far = _slab(origin[0], direction[0], half[0])
    for axis in (1, 2):
        low, high = _slab(origin[axis], direction[axis], half[axis])
        near = np.maximum(near, low)
        far = np.minimum(far, high)
    return near, far


def _ellipsoid(origin: Triple, direction: Triple, half: Triple) -> tuple[Any, Any]:
    """Quadratic in the space where the ellipsoid is the unit sphere; double precision, since hills are large."""
    o = [np.asarray(origin[axis], dtype=np.float64) / half[axis] for axis in range(3)]
    d = [np.asarray(direction[axis], dtype=np.float64) / half[axis] for axis in range(3)]
    a = d[0] * d[0] + d[1] * d[1] + d[2] * d[2]
    b = o[0] * d[0] + o[1] * d[1] + o[2] * d[2]
    c = o[0] * o[0] + o[1] * o[1] + o[2] * o[2] - 1.0
    discriminant = b * b - a * c
    root = np.sqrt(np.maximum(discriminant, 0.0))
    hit = discriminant > 0.0
    return np.where(hit, (-b - root) / a, np.inf), np.where(hit, (-b + root) / a, -np.inf)


def _cone(origin: Triple, direction: Triple, half: Triple) -> tuple[Any, Any]:
    """The double cone's quadratic, its right half, cut by the slab between bottom and top."""
    o = [np.asarray(value, dtype=np.float64) for value in origin]
    d = [np.asarray(value, dtype=np.float64) for value in direction]
    slope = (half[1] - half[0]) / (2.0 * half[2])  # of the radius along z
    radius = 0.5 * (half[0] + half[1]) + slope * o[2]  # at the ray's origin
    growth = slope * d[2]  # of the radius along the ray
    a = d[0] * d[0] + d[1] * d[1] - growth * growth
    a = np.where(np.abs(a) < 1e-12, 1e-12, a)
    b = o[0] * d[0] + o[1] * d[1] - radius * growth
    c = o[0] * o[0] + o[1] * o[1] - radius * radius
    discriminant = b * b - a * c
    root = np.sqrt(np.maximum(discriminant, 0.0))
    first, second = (-b - root) / a, (-b + root) / a
    # a > 0: inside between the roots. a < 0: the ray is steeper than the cone's side; first >= second, and it is inside before
    # the second or after the first, on the half where the radius is positive.
    opens = growth > 0.0
    steep = a < 0.0
    near = np.where(steep, np.where(opens, first, -np.inf), first)
    far = np.where(steep, np.where(opens, np.inf, second), second)
    low, high = _slab(o[2], d[2], half[2])
    hit = (discriminant > 0.0) | steep
    return np.where(hit, np.maximum(near, low), np.inf), np.where(hit, np.minimum(far, high), -np.inf)


def signed_distance(kind: Kind, point: Triple, half: Triple) -> Any:
    """Distance of points to the solid's surface, negative inside.

    Exact outside a box; a lower bound of the distance outside the others, with the right sign everywhere.
    """
    if kind is Kind.BOX:
        q = [np.abs(point[axis]) - half[axis] for axis in range(3)]
        outside = [np.maximum(value, 0.0) for value in q]
        inside = np.minimum(np.maximum(np.maximum(q[0], q[1]), q[2]), 0.0)
        return np.sqrt(outside[0] ** 2 + outside[1] ** 2 + outside[2] ** 2) + inside
    if kind is Kind.ELLIPSOID:
        q = [point[axis] / half[axis] for axis in range(3)]
        smallest = np.minimum(np.minimum(half[0], half[1]), half[2])
        return (np.sqrt(q[0] ** 2 + q[1] ** 2 + q[2] ** 2) - 1.0) * smallest
    slope = (half[1] - half[0]) / (2.0 * half[2])
    radius = 0.5 * (half[0] + half[1]) + slope * point[2]
    side = (np.sqrt(point[0] ** 2 + point[1] ** 2) - radius) / np.sqrt(1.0 + slope * slope)
    return np.maximum(side, np.abs(point[2]) - half[2])


def to_local(primitives: Primitives, points: NDArray[np.floating[Any]]) -> NDArray[np.floating[Any]]:
    """Coordinates of world ``points`` (..., 3) in every solid's frame: (3, K, ...)."""
    delta = points[None] - primitives.centre.reshape((-1,) + (1,) * (points.ndim - 1) + (3,))
    return np.einsum("kji,k...j->ik...", primitives.rotation, delta)
