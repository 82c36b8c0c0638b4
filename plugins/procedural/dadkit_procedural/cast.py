"""Which solid each ray hits first, and how far away.

The rays have camera z = 1, so a ray's parameter *is* planar depth: nothing is converted, and depth is exact to float32.
Two lattices are cast together: pixel centres, which give the depth, and pixel corners, which serve only to smooth edges.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dadkit_procedural.geometry import interval, signed_distance, to_local
from dadkit_procedural.scene import Camera, Kind, Primitives

__all__ = ["Hits", "View", "cast", "clearance", "glance"]

_NEAR = 0.02  # metres; cameras keep farther away than this from every surface
_EDGES = np.array([(a, b) for a in range(8) for b in range(a + 1, 8) if (a ^ b).bit_count() == 1])


@dataclass(frozen=True)
class View:
    """The primitives as one camera at one resolution sees them.

    Attributes:
        x, y: (2, 1, W+1) and (2, H+1, 1) float32: ray direction (x, y, 1) of lattice 0 (centres) and 1 (corners). The last row
            and column of the centres lie outside the image.
        matrix: (K, 3, 3) local from camera directions.
        origin: (K, 3) the camera's position in local coordinates.
    """

    x: NDArray[np.float32]
    y: NDArray[np.float32]
    matrix: NDArray[np.float64]
    origin: NDArray[np.float64]

    @staticmethod
    def of(camera: Camera, primitives: Primitives, height: int, width: int) -> View:
        """The view of a ``height x width`` image."""
        k = camera.intrinsics(height, width)
        shift = np.array([0.5, 0.0])[:, None]
        x = (np.arange(width + 1) + shift - k[0, 2]) / k[0, 0]
        y = (np.arange(height + 1) + shift - k[1, 2]) / k[1, 1]
        matrix = primitives.rotation.transpose(0, 2, 1) @ camera.rotation
        origin = to_local(primitives, camera.position).T.astype(np.float64)
        return View(x[:, None, :].astype(np.float32), y[:, :, None].astype(np.float32), matrix, origin)


@dataclass(frozen=True)
class Hits:
    """First hits on both lattices, (2, H+1, W+1): planar depth (infinity for sky) and the primitive's index (-1 for sky)."""

    depth: NDArray[np.float32]
    index: NDArray[np.int16]


def _windows(camera: Camera, primitives: Primitives, view: View) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    """Rows and columns (K, 4: top, bottom, left, right) of the lattice that can see each solid, and its nearest depth (K,).

    The bounding box's edges are clipped at the near plane and projected; a solid behind the camera gets an empty window.
    """
    extent = primitives.half.copy()
    cones = primitives.kind == Kind.CONE
    extent[cones, 0] = extent[cones, 1] = primitives.half[cones, :2].max(axis=1)
    signs = np.array([[(c >> axis & 1) * 2 - 1 for axis in range(3)] for c in range(8)])
    corners = signs[None] * extent[:, None] - view.origin[:, None]  # local, from the camera: (K, 8, 3)
    corners = np.einsum("kci,kij->kcj", corners, view.matrix)  # into camera axes, as matrix is orthogonal
    a, b = corners[:, _EDGES[:, 0]], corners[:, _EDGES[:, 1]]
    crossing = (a[..., 2] - _NEAR) * (b[..., 2] - _NEAR) < 0
    step = np.where(crossing, (_NEAR - a[..., 2]) / np.where(crossing, b[..., 2] - a[..., 2], 1.0), 0.0)
    points = np.concatenate([corners, a + step[..., None] * (b - a)], axis=1)
    seen = np.concatenate([corners[..., 2] > _NEAR, crossing], axis=1)
    z = np.maximum(points[..., 2], _NEAR)
    px, py = points[..., 0] / z, points[..., 1] / z
    x, y = view.x[1, 0].astype(np.float64), view.y[1, :, 0].astype(np.float64)  # corner lattice; centres lie half a step on
    step_x, step_y = x[1] - x[0], y[1] - y[0]
    left = np.floor((np.where(seen, px, np.inf).min(axis=1) - x[0]) / step_x - 0.51)
    right = np.ceil((np.where(seen, px, -np.inf).max(axis=1) - x[0]) / step_x + 0.01) + 1
    top = np.floor((np.where(seen, py, np.inf).min(axis=1) - y[0]) / step_y - 0.51)
    bottom = np.ceil((np.where(seen, py, -np.inf).max(axis=1) - y[0]) / step_y + 0.01) + 1
    window = np.clip(np.stack([top, bottom, left, right], axis=1), 0, [len(y), len(y), len(x), len(x)])
    nearest = np.where(seen, points[..., 2], np.inf).min(axis=1)
    return np.where(seen.any(axis=1, keepdims=True), window, 0).astype(np.intp), nearest


def cast(camera: Camera, primitives: Primitives, view: View) -> Hits:
    """Cast all rays of ``view``; each solid is tried only in the window where it can be seen, near ones first."""
    shape = (2, view.y.shape[1], view.x.shape[2])
    depth = np.full(shape, np.inf, dtype=np.float32)
    index = np.full(shape, -1, dtype=np.int16)
    windows, nearest = _windows(camera, primitives, view)
    matrix = view.matrix.astype(np.float32)
    # Python's numbers take the precision of what they meet: float32 for boxes, float64 where geometry asks for it.
    kinds, origins, halves = [Kind(k) for k in primitives.kind], view.origin.tolist(), primitives.half.tolist()
    for k in np.argsort(nearest, kind="stable"):
        top, bottom, left, right = windows[k]
        if bottom <= top or right <= left:
            continue
        best = depth[:, top:bottom, left:right]
        if nearest[k] >= best.max():
            continue
        x, y = view.x[:, :, left:right], view.y[:, top:bottom]
        m = matrix[k]
        direction = [m[i, 0] * x + (m[i, 1] * y + m[i, 2]) for i in range(3)]
        near, far = interval(kinds[k], origins[k], direction, halves[k])
        hit = (near <= far) & (near < best) & (near > 0.0)
        np.copyto(best, near, where=hit, casting="same_kind")
        np.copyto(index[:, top:bottom, left:right], np.int16(k), where=hit)
    return Hits(depth, index)


def glance(camera: Camera, primitives: Primitives, side: int = 12) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    """Depth and primitive index of ``side x side`` rays over a square image: a cheap look before a view is accepted."""
    view = View.of(camera, primitives, side, side)
    x = np.broadcast_to(view.x[0, :, :side], (side, side)).ravel()
    y = np.broadcast_to(view.y[0, :side], (side, side)).ravel()
    rays = np.stack([x, y, np.ones_like(x)])
    depth = np.full((len(primitives), side * side), np.inf, dtype=np.float32)
    matrix, origin, half = (a.astype(np.float32) for a in (view.matrix, view.origin, primitives.half))
    for kind in Kind:
        which = np.flatnonzero(primitives.kind == kind)
        if len(which) == 0:
            continue
        direction = np.einsum("kij,jn->ikn", matrix[which], rays)
        near, far = interval(kind, origin[which].T[..., None], direction, half[which].T[..., None])
        depth[which] = np.where((near <= far) & (near > 0), near, np.inf)
    first = depth.argmin(axis=0)
    best = depth[first, np.arange(side * side)]
    return best, np.where(np.isfinite(best), first, -1)


def clearance(primitives: Primitives, point: NDArray[np.float64]) -> float:
    """Distance (a lower bound of it) from a point to the nearest surface; negative inside a solid."""
    local = to_local(primitives, point)
    nearest = np.inf
    for kind in Kind:
        which = primitives.kind == kind
        if which.any():
            nearest = min(nearest, float(signed_distance(kind, local[:, which], primitives.half[which].T).min()))
    return nearest
