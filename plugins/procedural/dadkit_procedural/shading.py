"""From surface points to light: albedo, lamps and sun with shadows, ambient light with occlusion, highlights, haze, sky."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from dadkit_procedural.lighting import BLOCK, Blocks
from dadkit_procedural.scene import Scene
from dadkit_procedural.surface import Surface
from dadkit_procedural.tiles import lookup, tile_index

__all__ = ["shade", "sky_color"]

Rows = NDArray[np.float32]


def shade(scene: Scene, points: Surface) -> Rows:
    """(3, n) linear RGB that arrives at the camera from ``points``, whose number is a multiple of ``BLOCK``."""
    assert points.depth.size % BLOCK == 0
    material = scene.primitives.material[points.index]
    color = _albedo(scene, points, material)
    blocks = Blocks(scene.primitives, points.position, points.normal, points.pixel)
    above, below = (np.array(c, dtype=np.float32)[:, None] for c in (scene.sky.above, scene.sky.below))
    up = 0.5 + 0.5 * points.normal[2]
    light = (below + (above - below) * up) * blocks.openness(scene.reach)
    gloss = np.array([m.gloss for m in scene.materials], dtype=np.float32)[material]
    shine = np.zeros_like(light)
    for lamp in scene.lights:
        vector = np.array(lamp.vector, dtype=np.float32)[:, None]
        towards = np.broadcast_to(vector, points.position.shape) if lamp.is_sun else vector - points.position
        squared = np.einsum("in,in->n", towards, towards)
        distance = np.sqrt(squared)
        facing = np.einsum("in,in->n", towards, points.normal) / distance
        strength = np.maximum(facing, 0) * blocks.shadow(lamp, facing)
        if not lamp.is_sun:
            strength = strength / (squared + np.float32(0.15))
        tint = np.array(lamp.color, dtype=np.float32)[:, None]
        light += tint * strength
        if gloss.any():
            shine += tint * (strength * gloss * _highlight(points, towards, distance))
    color = color * light + shine
    emission = np.array([m.emission for m in scene.materials], dtype=np.float32)
    if emission.any():
        high = np.array([m.high for m in scene.materials], dtype=np.float32).T
        color += (emission * high)[:, material]
    return _haze(scene, points, color)


def _albedo(scene: Scene, points: Surface, material: NDArray[np.intp]) -> Rows:
    """The material's colours at its texture's value, dirtied by the grunge noise."""
    rows = [(*m.low, *m.high, 1 / m.period[0], 1 / m.period[1], m.grunge) for m in scene.materials]
    t = np.take(np.ascontiguousarray(np.array(rows, dtype=np.float32).T), material, axis=1)
    tile = np.array([tile_index(m.tile) for m in scene.materials], dtype=np.int32)[material]
    value = lookup(tile, points.u * t[6], points.v * t[7], points.footprint_u * t[6], points.footprint_v * t[7])
    # Grunge: the cloud tile at three octaves' distance from the texture, moved for every solid.
    slow_u, slow_v = t[6] * np.float32(0.23), t[7] * np.float32(0.23)
    moved = points.index.astype(np.float32) * np.float32(0.137)
    clouds = np.full(tile.shape, tile_index("clouds"), dtype=np.int32)
    dirt = lookup(
        clouds, points.u * slow_u + moved, points.v * slow_v + moved, points.footprint_u * slow_u, points.footprint_v * slow_v
    )
    color = t[0:3] + (t[3:6] - t[0:3]) * value
    color *= 1 + t[8] * (dirt - np.float32(0.5)) * 2
    return color


def _highlight(points: Surface, towards: Rows, distance: Rows) -> Rows:
    """Blinn-Phong with exponent 32."""
    half = towards / distance - points.ray / np.sqrt(np.einsum("in,in->n", points.ray, points.ray))
    length = np.sqrt(np.maximum(np.einsum("in,in->n", half, half), np.float32(1e-12)))
    cosine = np.clip(np.einsum("in,in->n", half, points.normal) / length, 0, 1)
    for _ in range(5):
        cosine = cosine * cosine
    return 3 * cosine


def _haze(scene: Scene, points: Surface, color: Rows) -> Rows:
    if math.isinf(scene.sky.haze):
        return color
    far = np.sqrt(np.einsum("in,in->n", points.ray, points.ray)) * points.depth
    clear = np.exp(-far * np.float32(1 / scene.sky.haze))
    horizon = np.array(scene.sky.horizon, dtype=np.float32)[:, None]
    return horizon + (color - horizon) * clear


def sky_color(scene: Scene, ray: Rows) -> Rows:
    """(3, n) linear RGB of the sky along world directions (3, n) of any length."""
    unit = ray / np.sqrt(np.einsum("in,in->n", ray, ray))
    height = np.maximum(unit[2], 0)
    zenith, horizon = (np.array(c, dtype=np.float32)[:, None] for c in (scene.sky.zenith, scene.sky.horizon))
    color = horizon + (zenith - horizon) * np.sqrt(height)
    if scene.sky.clouds > 0:
        scale = 0.25 / (height + np.float32(0.12))
        u, v = unit[0] * scale + np.float32(scene.sky.cloud_offset[0]), unit[1] * scale + np.float32(scene.sky.cloud_offset[1])
        blur = 0.004 * scale
        tile = np.full(u.shape, tile_index("clouds"), dtype=np.int32)
        value = lookup(tile, u, v, blur, blur * 3)
        cover = np.clip((value - np.float32(0.85 - 0.6 * scene.sky.clouds)) * 4, 0, 1) * np.clip(height * 6, 0, 1)
        white = np.float32(1.15) * np.maximum(horizon, horizon.mean())
        color += (white - color) * (np.float32(0.85) * cover)
    for lamp in scene.lights:
        if lamp.is_sun:
            near = np.maximum(np.einsum("i,in->n", np.array(lamp.vector, dtype=np.float32), unit), 0)
            glow = near**8 * np.float32(0.12) + (near > 0.9995) * np.float32(3)
            color += np.array(lamp.color, dtype=np.float32)[:, None] * glow
    return color
