"""One scene to one picture and its depth.

Depth is the first hit at each pixel's centre. Colour is the same point's, and where a pixel's corners see another surface, the
mean of centre (one half) and corners (one eighth each): edges are smooth, and only edges cost extra. The camera then adds
automatic exposure, white balance, tone curve, vignette and noise.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from numpy.typing import NDArray

from dadkit_procedural.cast import Hits, View, cast
from dadkit_procedural.lighting import BLOCK
from dadkit_procedural.scene import Photo, Scene
from dadkit_procedural.shading import shade, sky_color
from dadkit_procedural.surface import surface

__all__ = [
    "Picture",
    "develop",
    "render",
]


_STEPS, _TOP = 4096, 8.0  # the tone curve is tabulated over sqrt of linear light in [0, 8]


@cache
def _curve() -> NDArray[np.float32]:
    """Film-like roll-off 1 - exp(-1.6 x), then the sRGB transfer, to grey levels 0-255."""
    linear = 1.0 - np.exp(-1.6 * (np.arange(_STEPS) / (_STEPS - 1)) ** 2 * _TOP)
    srgb = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return (srgb * 255.0).astype(np.float32)


def develop(light: NDArray[np.float32], photo: Photo, rng: np.random.Generator) -> NDArray[np.uint8]:
    """Linear RGB (3, H, W) to an 8-bit picture (3, H, W)."""
    height, width = light.shape[1:]
    mean = np.exp(np.log(np.maximum(light.mean(axis=0), 1e-3)).mean())  # the geometric mean, as light meters do
    gain = (0.28 * photo.exposure / mean) * np.array(photo.balance)
    y = (np.arange(height) + 0.5) * 2 / height - 1
    x = (np.arange(width) + 0.5) * 2 / width - 1
    fall = (1 - 0.5 * photo.vignette * (y[:, None] ** 2 + x[None] ** 2)).astype(np.float32)
    exposed = light * (gain.astype(np.float32)[:, None, None] * fall)
    steps = np.sqrt(np.clip(exposed, 0, _TOP)) * np.float32((_STEPS - 1) / np.sqrt(_TOP))
    levels = _curve().take(steps.astype(np.int32))
    if photo.contrast != 1.0:
        levels = 127.5 + (levels - np.float32(127.5)) * np.float32(photo.contrast)
    if photo.noise > 0:
        levels += rng.standard_normal(levels.shape, dtype=np.float32) * np.float32(photo.noise)
    return np.rint(np.clip(levels, 0, 255)).astype(np.uint8)


@dataclass(frozen=True)
class Picture:
    """A rendered scene.

    Attributes:
        image: (3, H, W) uint8 RGB.
        depth: (H, W) float32 metres along the optical axis; infinity where the ray meets nothing.
        index: (H, W) int16: the primitive seen, -1 for sky.
        intrinsics: (3, 3) float32 in pixels, pixel centres at half integers.
    """

    image: NDArray[np.uint8]
    depth: NDArray[np.float32]
    index: NDArray[np.int16]
    intrinsics: NDArray[np.float32]


def render(scene: Scene, height: int, width: int, rng: np.random.Generator) -> Picture:
    """Draw ``scene`` at ``height x width``; ``rng`` is used for the sensor's noise alone."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        view = View.of(scene.camera, scene.primitives, height, width)
        hits = cast(scene.camera, scene.primitives, view)
        edge = _edges(hits)
        light = _resolve(_light(scene, view, hits, edge), edge)
    depth, index = hits.depth[0, :height, :width], hits.index[0, :height, :width]
    intrinsics = scene.camera.intrinsics(height, width).astype(np.float32)
    return Picture(develop(light, scene.photo, rng), np.ascontiguousarray(depth), np.ascontiguousarray(index), intrinsics)


def _edges(hits: Hits) -> NDArray[np.bool_]:
    """(H, W): pixels of which a corner sees another solid, or the same one across a step in depth or a crease."""
    centre, corner = hits.index[0, :-1, :-1], hits.index[1]
    depth = hits.depth[1]
    inverse = np.where(np.isfinite(depth), 1 / depth, 0)  # linear in the image on every plane, so a crease bends it
    middle = np.where(np.isfinite(hits.depth[0, :-1, :-1]), 1 / hits.depth[0, :-1, :-1], 0)
    quarters = [
        (slice(None, -1), slice(None, -1)),
        (slice(None, -1), slice(1, None)),
        (slice(1, None), slice(None, -1)),
        (slice(1, None),) * 2,
    ]
    edge = np.zeros(centre.shape, dtype=bool)
    for quarter in quarters:
        edge |= corner[quarter] != centre
    a, b, c, d = (inverse[quarter] for quarter in quarters)
    edge |= np.maximum(np.abs(a + d - 2 * middle), np.abs(b + c - 2 * middle)) > np.float32(0.004) * middle
    return edge


@lru_cache(maxsize=8)
def _tiles(height: int, width: int) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """Flat positions of both lattices (2, H+1, W+1), tile by tile of 16 x 16 pixels, and the tile's number at each."""
    rows, columns = np.meshgrid(np.arange(height + 1), np.arange(width + 1), indexing="ij")
    tile = ((rows // 16) * (width // 16 + 1) + columns // 16).ravel()
    both = np.concatenate([tile, tile])
    order = np.argsort(both, kind="stable")
    return order, both[order]


def _order(hits: Hits, needed: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Flat positions of the needed samples, tile by tile and in a tile solid by solid: neighbours on a surface together."""
    order, tile = _tiles(hits.depth.shape[1] - 1, hits.depth.shape[2] - 1)
    keep = needed.ravel()[order]
    order, tile = order[keep], tile[keep]
    return order[np.argsort((tile << 16) + hits.index.ravel()[order], kind="stable")]


def _light(scene: Scene, view: View, hits: Hits, edge: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(3, 2, H+1, W+1) linear RGB: every centre, and the corners of edge pixels; elsewhere 0."""
    height, width = edge.shape
    needed = np.zeros(hits.depth.shape, dtype=bool)
    needed[0, :height, :width] = True
    corner = needed[1]
    for quarter in (corner[:-1, :-1], corner[:-1, 1:], corner[1:, :-1], corner[1:, 1:]):
        quarter |= edge
    order = _order(hits, needed)
    lattice, row, column = np.unravel_index(order, hits.depth.shape)
    x, y = view.x[lattice, 0, column], view.y[lattice, row, 0]
    depth, index = hits.depth.ravel()[order], hits.index.ravel()[order].astype(np.intp)
    light = np.zeros((3, hits.depth.size), dtype=np.float32)

    sky = index < 0
    if sky.any():
        to_world = scene.camera.rotation.astype(np.float32)
        ray = np.stack([to_world[i, 0] * x[sky] + (to_world[i, 1] * y[sky] + to_world[i, 2]) for i in range(3)])
        light[:, order[sky]] = sky_color(scene, ray)
    solid = np.flatnonzero(~sky)
    if len(solid):
        padded = np.concatenate([solid, np.repeat(solid[-1:], -len(solid) % BLOCK)])
        points = surface(scene.camera, scene.primitives, view, index[padded], depth[padded], x[padded], y[padded])
        light[:, order[solid]] = shade(scene, points)[:, : len(solid)]
    return light.reshape(3, *hits.depth.shape)


def _resolve(light: NDArray[np.float32], edge: NDArray[np.bool_]) -> NDArray[np.float32]:
    """(3, H, W): the centres, and on edges the mean with the corners."""
    centre, corner = light[:, 0, :-1, :-1], light[:, 1]
    around = 0.25 * (corner[:, :-1, :-1] + corner[:, :-1, 1:] + corner[:, 1:, :-1] + corner[:, 1:, 1:])
    return np.where(edge, 0.5 * (centre + around), centre)
