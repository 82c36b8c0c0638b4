"""What lies at each hit: position, normal, texture coordinates and how much of the texture the pixel covers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dadkit_procedural.cast import View
from dadkit_procedural.scene import Camera, Kind, Primitives

__all__ = ["Surface", "surface"]

Rows = NDArray[np.float32]


@dataclass(frozen=True)
class Surface:
    """n surface points, coordinates first.

    Attributes:
        index: (n,) primitive.
        depth: (n,) planar depth in metres.
        ray: (3, n) world direction of the ray, of length ray / depth.
        position, normal: (3, n) in the world.
        u, v: (n,) metres along the surface.
        footprint_u, footprint_v: (n,) metres of u and v that one pixel covers.
        pixel: (n,) metres that a pixel covers at this depth.
    """

    index: NDArray[np.intp]
    depth: Rows
    ray: Rows
    position: Rows
    normal: Rows
    u: Rows
    v: Rows
    footprint_u: Rows
    footprint_v: Rows
    pixel: Rows


def surface(
    camera: Camera, primitives: Primitives, view: View, index: NDArray[np.intp], depth: Rows, x: Rows, y: Rows
) -> Surface:
    """Gather everything about the hits of rays (x, y, 1) on primitives ``index`` at ``depth``."""
    to_world = camera.rotation.astype(np.float32)
    ray = np.stack([to_world[i, 0] * x + (to_world[i, 1] * y + to_world[i, 2]) for i in range(3)])
    position = camera.position.astype(np.float32)[:, None] + depth * ray
    table = np.concatenate([view.matrix.reshape(-1, 9), view.origin, 1.0 / primitives.half, primitives.offset], axis=1)
    t = np.take(np.ascontiguousarray(table.T, dtype=np.float32), index, axis=1)
    direction = np.stack([t[3 * i] * x + (t[3 * i + 1] * y + t[3 * i + 2]) for i in range(3)])
    local = t[9:12] + depth * direction
    pixel = depth * view.x.dtype.type(view.x[0, 0, 1] - view.x[0, 0, 0])

    # The face of a box is the axis along which the point is farthest out.
    out = np.abs(local * t[12:15])
    axis = np.where(out[0] > out[1], np.where(out[0] > out[2], 0, 2), np.where(out[1] > out[2], 1, 2))
    a, b, c = axis == 0, axis == 1, axis == 2
    columns = primitives.rotation.transpose(0, 2, 1).reshape(-1, 3).astype(np.float32)  # row 3k + i: axis i of solid k
    normal = np.take(np.ascontiguousarray(columns.T), 3 * index + axis, axis=1)
    sign = np.where(np.where(a, local[0], np.where(b, local[1], local[2])) < 0, np.float32(-1), np.float32(1))
    normal = normal * sign
    moved = local + t[15:18]
    u, v = np.where(a, moved[1], moved[0]), np.where(c, moved[1], moved[2])

    # On a plane with normal axis n, d(local_j)/dx = depth * (M_j0 - direction_j M_n0 / direction_n); likewise for y.
    across = np.where(a, direction[0], np.where(b, direction[1], direction[2]))
    across = np.where(np.abs(across) < 1e-6, np.float32(1e-6), across)
    du, dv = np.where(a, direction[1], direction[0]) / across, np.where(c, direction[1], direction[2]) / across
    nx, ny = (np.where(a, t[k], np.where(b, t[3 + k], t[6 + k])) for k in (0, 1))
    ux, uy = (np.where(a, t[3 + k], t[k]) for k in (0, 1))
    vx, vy = (np.where(c, t[3 + k], t[6 + k]) for k in (0, 1))
    footprint_u = pixel * (np.abs(ux - du * nx) + np.abs(uy - du * ny))
    footprint_v = pixel * (np.abs(vx - dv * nx) + np.abs(vy - dv * ny))

    result = Surface(index, depth, ray, position, normal, u, v, footprint_u, footprint_v, pixel)
    curved = np.flatnonzero(primitives.kind[index] != Kind.BOX)
    if len(curved):
        _bend(primitives, result, curved, local[:, curved])
    return result


def _bend(primitives: Primitives, points: Surface, which: NDArray[np.intp], local: Rows) -> None:
    """Replace normals and texture coordinates of the points ``which`` that lie on ellipsoids and cones."""
    index = points.index[which]
    half = primitives.half[index].T.astype(np.float32)
    angle = np.arctan2(local[1], local[0])
    is_cone = primitives.kind[index] == Kind.CONE
    slope = np.where(is_cone, (half[1] - half[0]) / (2 * half[2]), 0)
    radius = np.hypot(local[0], local[1])
    # The two caps of a cone are flat.
    edge = 0.5 * (half[0] + half[1]) + slope * local[2]
    cap = is_cone & (half[2] - np.abs(local[2]) < np.abs(edge - radius))
    normal = np.where(is_cone, np.stack([local[0], local[1], -slope * radius]), local / (half * half))
    normal = np.where(cap, np.stack([np.zeros_like(angle), np.zeros_like(angle), local[2]]), normal)
    rotation = np.take(np.ascontiguousarray(primitives.rotation.reshape(-1, 9).T, dtype=np.float32), index, axis=1)
    world = np.stack(
        [rotation[3 * i] * normal[0] + rotation[3 * i + 1] * normal[1] + rotation[3 * i + 2] * normal[2] for i in range(3)]
    )
    world /= np.maximum(np.sqrt((world * world).sum(axis=0)), np.float32(1e-12))
    points.normal[:, which] = world

    around = np.where(is_cone, np.maximum(half[0], half[1]), 0.5 * (half[0] + half[1]))
    latitude = np.arcsin(np.clip(local[2] / half[2], -1, 1)) * half[2]
    points.u[which] = np.where(cap, local[0], angle * around)
    points.v[which] = np.where(cap, local[1], np.where(is_cone, local[2] + half[2], latitude))
    ray = points.ray[:, which]
    facing = np.abs((ray * world).sum(axis=0)) / np.sqrt((ray * ray).sum(axis=0))
    cover = points.pixel[which] / np.sqrt(np.maximum(facing, np.float32(0.05)))
    points.footprint_u[which] = cover * np.where(cap, 1, around / np.maximum(radius, np.float32(0.05) * around))
    points.footprint_v[which] = cover
