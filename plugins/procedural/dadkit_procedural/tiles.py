"""The texture tiles: periodic grey pictures that materials colour, and filtered reading of them.

A tile is ``SIDE x SIDE`` values in [0, 1] that repeats in both directions. Surfaces that recede alias badly when a texture is
read at points, so each tile is stored as a *ripmap*: all combinations of halvings along u and v. A lookup takes the pixel's
footprint along u and along v separately, which keeps a floor sharp across the view while it is averaged along it.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["SIDE", "TILES", "lookup", "tile_index"]

SIDE = 256
_LEVELS = SIDE.bit_length() - 1
Map = NDArray[Any]
_V, _U = np.meshgrid(*[(np.arange(SIDE) + 0.5) / SIDE] * 2, indexing="ij")


def _noise(rng: np.random.Generator, falloff: float, stretch: tuple[float, float] = (1.0, 1.0)) -> Map:
    """Periodic noise in [0, 1] whose amplitude falls as frequency ** -falloff, squeezed by ``stretch`` along v and u."""
    fv, fu = np.meshgrid(np.fft.fftfreq(SIDE) * SIDE * stretch[0], np.fft.fftfreq(SIDE) * SIDE * stretch[1], indexing="ij")
    radius = np.maximum(np.hypot(fv, fu), 1.0)
    spectrum = np.fft.fft2(rng.standard_normal((SIDE, SIDE))) * radius**-falloff
    spectrum[0, 0] = 0.0
    values = np.fft.ifft2(spectrum).real
    return np.clip(0.5 + values / (5.0 * values.std()), 0.0, 1.0).astype(np.float32)


def _cells(columns: int, rows: int, shift: float = 0.0) -> tuple[Map, Map, NDArray[np.intp]]:
    """A grid of cells, odd rows moved by ``shift`` of a cell: position in the cell (x, y in [0, 1)) and the cell's number."""
    row = np.floor(_V * rows).astype(np.intp)
    x = _U * columns + shift * (row % 2)
    column = np.floor(x).astype(np.intp) % columns
    return x % 1.0, (_V * rows) % 1.0, row * columns + column


def _mortar(x: Map, y: Map, width: float, aspect: float) -> Map:
    """1 inside a cell, 0 in the joint around it; ``width`` in cell heights, ``aspect`` = cell width / height."""
    edge = np.minimum(np.minimum(x, 1 - x) * aspect, np.minimum(y, 1 - y))
    return np.clip((edge - width) / 0.03 + 0.5, 0.0, 1.0)


def _checker(rng: np.random.Generator) -> Map:
    return (np.floor(_U * 4) + np.floor(_V * 4)) % 2


def _tiled(rng: np.random.Generator) -> Map:
    x, y, cell = _cells(4, 4)
    tone = rng.uniform(0.75, 1.0, 16)[cell]
    return _mortar(x, y, 0.03, 1.0) * tone * (0.9 + 0.2 * (_noise(rng, 1.6) - 0.5))


def _bricks(rng: np.random.Generator) -> Map:
    x, y, cell = _cells(4, 8, 0.5)
    tone = rng.uniform(0.5, 1.0, 32)[cell]
    return _mortar(x, y, 0.08, 2.0) * np.clip(tone + 0.4 * (_noise(rng, 0.8) - 0.5), 0, 1)


def _blocks(rng: np.random.Generator) -> Map:
    x, y, cell = _cells(2, 4, 0.5)
    tone = rng.uniform(0.7, 1.0, 8)[cell]
    return _mortar(x, y, 0.03, 1.5) * np.clip(tone + 0.3 * (_noise(rng, 1.0) - 0.5), 0, 1)


def _planks(rng: np.random.Generator) -> Map:
    """Boards along v, each with its own tone, grain and one end joint."""
    board = np.floor(_U * 6).astype(np.intp)
    joint = rng.uniform(0, 1, 6)[board]
    x = (_U * 6) % 1.0
    gap = np.minimum(np.minimum(x, 1 - x) / 6, np.abs((_V - joint + 0.5) % 1.0 - 0.5))
    tone = rng.uniform(0.45, 0.9, (6, 2))[board, (((_V - joint) % 1.0) > 0.5).astype(np.intp)]
    grain = _noise(rng, 1.0, (6.0, 0.7))
    return np.clip(gap / 0.006, 0, 1) * np.clip(tone + 0.5 * (grain - 0.5), 0, 1)


def _grain(rng: np.random.Generator) -> Map:
    """Wood cut along the trunk: wavy rings drawn out along u."""
    warp = _noise(rng, 2.2, (1.0, 3.0))
    return np.clip(0.5 + 0.35 * np.sin(2 * np.pi * (4 * _V + 3.0 * warp)) + 0.5 * (_noise(rng, 0.7, (0.6, 8.0)) - 0.5), 0, 1)


def _stripes(rng: np.random.Generator) -> Map:
    return (_U * 8) % 1.0 > 0.5


def _uneven_stripes(rng: np.random.Generator) -> Map:
    edges = np.sort(rng.uniform(0, 1, 11))
    return rng.uniform(0, 1, 12)[np.searchsorted(edges, _U)]


def _books(rng: np.random.Generator) -> Map:
    """Two rows of upright spines, each with a tone, a height and a band."""
    row = (_V * 2).astype(np.intp)
    y = (_V * 2) % 1.0
    value = np.zeros_like(_U)
    for which in range(2):
        edges = np.cumsum(rng.uniform(0.6, 1.6, 22))
        edges = edges[:-1] / edges[-1]
        spine = np.searchsorted(edges, _U)
        tone, top, band = rng.uniform(0.25, 1, 22)[spine], rng.uniform(0.72, 0.95, 22)[spine], rng.uniform(0.1, 0.6, 22)[spine]
        distance = np.min(np.abs(_U[..., None] - edges), axis=-1)
        drawn = tone * np.clip(distance / 0.006, 0, 1) * (1 - 0.45 * (np.abs(y - band) < 0.05))
        value = np.where(row == which, np.where(y < top, drawn, 0.05), value)
    return value


def _marble(rng: np.random.Generator) -> Map:
    warp = _noise(rng, 2.0)
    vein = np.abs(np.sin(2 * np.pi * (_U + _V + 2.0 * warp)))
    return np.clip(vein**0.4 * (0.8 + 0.4 * _noise(rng, 1.5)), 0, 1)


def _nearest(rng: np.random.Generator, cells: int) -> tuple[Map, Map, NDArray[np.intp]]:
    """Distances to the nearest and second nearest of jittered periodic points, in cells, and the nearest one's number."""
    points = rng.uniform(0.1, 0.9, (cells, cells, 2))
    row, column = np.floor(_V * cells).astype(np.intp), np.floor(_U * cells).astype(np.intp)
    first, second = np.full(_U.shape, 9.0), np.full(_U.shape, 9.0)
    number = np.zeros(_U.shape, dtype=np.intp)
    for dr in (-1, 0, 1):
        for dc in (-1, 0, 1):
            r, c = (row + dr) % cells, (column + dc) % cells
            distance = np.hypot(row + dr + points[r, c, 0] - _V * cells, column + dc + points[r, c, 1] - _U * cells)
            nearer = distance < first
            second = np.where(nearer, first, np.minimum(second, distance))
            number = np.where(nearer, r * cells + c, number)
            first = np.where(nearer, distance, first)
    return first, second, number


def _cobbles(rng: np.random.Generator) -> Map:
    first, second, number = _nearest(rng, 9)
    tone = rng.uniform(0.55, 1.0, 81)[number]
    return np.clip((second - first) / 0.15, 0, 1) * tone * (1 - 0.35 * first)


def _leaves(rng: np.random.Generator) -> Map:
    first, _, number = _nearest(rng, 22)
    return np.clip(rng.uniform(0.2, 1.0, 22 * 22)[number] - 0.55 * first, 0, 1)


def _dots(rng: np.random.Generator) -> Map:
    x, y, _ = _cells(5, 5)
    return np.clip((0.3 - np.hypot(x - 0.5, y - 0.5)) / 0.05 + 0.5, 0, 1)


def _facade(rng: np.random.Generator) -> Map:
    """4 x 4 windows with frames and sills; dark panes, some of them lit."""
    x, y, cell = _cells(4, 4)
    pane = (np.abs(x - 0.5) < 0.24) & (np.abs(y - 0.52) < 0.3)
    frame = (np.abs(x - 0.5) < 0.28) & (np.abs(y - 0.52) < 0.34)
    cross = (np.abs(x - 0.5) < 0.02) | (np.abs(y - 0.62) < 0.02)
    glass = rng.uniform(0.0, 0.3, 16)[cell] + 0.15 * y
    wall = 0.72 + 0.25 * (_noise(rng, 1.2) - 0.5)
    return np.where(pane & ~cross, glass, np.where(frame, 1.0, np.where(y < 0.04, 0.5, wall)))


def _bands(rng: np.random.Generator) -> Map:
    """An office block: 8 x 5 panes in long bands."""
    x, y, cell = _cells(8, 5)
    glass = rng.uniform(0.0, 0.35, 40)[cell]
    return np.where((y > 0.38) & (np.abs(x - 0.5) < 0.45), glass, 0.8 + 0.2 * (_noise(rng, 1.4) - 0.5))


def _plaid(rng: np.random.Generator) -> Map:
    def bands(x: Map) -> Map:
        return 0.5 * ((x * 3) % 1.0 > 0.55) + 0.25 * ((x * 6 + 0.1) % 1.0 > 0.85)

    return np.clip(bands(_U) + bands(_V), 0, 1.2) / 1.2


def _poster(rng: np.random.Generator) -> Map:
    """Some picture: rectangles and discs over a gradient."""
    value = 0.3 + 0.4 * _V
    for _ in range(14):
        cu, cv, size, tone = rng.uniform(0, 1, 4)
        du, dv = np.abs(_U - cu), np.abs(_V - cv)
        inside = (np.hypot(du, dv) < 0.2 * size) if rng.random() < 0.5 else ((du < 0.25 * size) & (dv < 0.15))
        value = np.where(inside, tone, value)
    return value


def _weave(rng: np.random.Generator) -> Map:
    x, y, cell = _cells(12, 12)
    over = ((cell // 12 + cell % 12) % 2) == 0
    return np.where(over, np.sin(np.pi * y), 0.75 * np.sin(np.pi * x)) * (0.8 + 0.4 * (_noise(rng, 0.8) - 0.5))


def _ripples(rng: np.random.Generator) -> Map:
    return 0.5 + 0.5 * np.sin(2 * np.pi * 10 * _U)


def _drawer(rng: np.random.Generator) -> Map:
    """A cabinet's front: 2 x 3 panels with joints and knobs."""
    x, y, _ = _cells(2, 3)
    knob = np.hypot((x - 0.5) * 1.5, y - 0.5) < 0.07
    return np.where(knob, 0.1, _mortar(x, y, 0.03, 1.5) * (0.75 + 0.5 * (_noise(rng, 1.0, (0.6, 4.0)) - 0.5)))


TILES: dict[str, Callable[[np.random.Generator], Map]] = {
    "plaster": lambda rng: _noise(rng, 1.2),
    "clouds": lambda rng: _noise(rng, 1.9),
    "speckle": lambda rng: _noise(rng, 0.35),
    "grass": lambda rng: _noise(rng, 0.55, (1.6, 1.0)),
    "gravel": lambda rng: np.clip(1.3 - 1.6 * _nearest(rng, 30)[0], 0, 1),
    "checker": _checker,
    "tiled": _tiled,
    "bricks": _bricks,
    "blocks": _blocks,
    "planks": _planks,
    "grain": _grain,
    "stripes": _stripes,
    "uneven_stripes": _uneven_stripes,
    "books": _books,
    "marble": _marble,
    "cobbles": _cobbles,
    "leaves": _leaves,
    "dots": _dots,
    "facade": _facade,
    "bands": _bands,
    "plaid": _plaid,
    "poster": _poster,
    "weave": _weave,
    "ripples": _ripples,
    "drawer": _drawer,
}
"""Name -> painter of a (SIDE, SIDE) map in [0, 1]; rows are v, columns are u."""

_INDEX = {name: index for index, name in enumerate(TILES)}


def tile_index(name: str) -> int:
    """Number of a tile, as :func:`lookup` takes it."""
    return _INDEX[name]


@cache
def _atlas() -> NDArray[np.uint8]:
    """All ripmaps, flat. Within a tile, halving i of v and j of u starts at (2S - 2S/2^i, 2S - 2S/2^j) of a 2S x 2S square."""
    atlas = np.zeros((len(TILES), 2 * SIDE, 2 * SIDE), dtype=np.uint8)
    for index, paint in enumerate(TILES.values()):
        rows = np.asarray(paint(np.random.default_rng([20, index])), dtype=np.float32)
        for i in range(_LEVELS + 1):
            block = rows
            top = 2 * SIDE - (2 * SIDE >> i)
            for j in range(_LEVELS + 1):
                left = 2 * SIDE - (2 * SIDE >> j)
                atlas[index, top : top + block.shape[0], left : left + block.shape[1]] = np.rint(np.clip(block, 0, 1) * 255)
                block = 0.5 * (block[:, ::2] + block[:, 1::2]) if block.shape[1] > 1 else block
            rows = 0.5 * (rows[::2] + rows[1::2]) if rows.shape[0] > 1 else rows
    return atlas.reshape(-1)


def _axis(coordinate: Map, footprint: Map) -> tuple[NDArray[np.int32], NDArray[np.int32], Map]:
    """Along one axis: the two texels to blend (as offsets in the ripmap) and the weight of the second."""
    texels = np.clip(footprint, 1.0 / SIDE, 1.0) * np.float32(SIDE * 1.19)  # 1.19 = 2^(1/4): halve a little late, stay crisp
    level = np.minimum((texels.view(np.int32) >> 23) - 127, _LEVELS)
    width = np.right_shift(SIDE, level).astype(np.int32)
    x = (coordinate - np.floor(coordinate)) * width - np.float32(0.5)
    low = np.floor(x)
    weight = x - low
    first = low.astype(np.int32)
    base = 2 * SIDE - 2 * width
    mask = width - 1
    return base + (first & mask), base + ((first + 1) & mask), weight


def lookup(tile: NDArray[np.int32], u: Map, v: Map, footprint_u: Map, footprint_v: Map) -> Map:
    """Read tiles, averaged over the footprint.

    Args:
        tile: (n,) numbers from :func:`tile_index`.
        u, v: (n,) float32 coordinates, one tile per unit.
        footprint_u, footprint_v: (n,) float32, how much of u and v the pixel covers.

    Returns:
        (n,) float32 in [0, 1].
    """
    atlas = _atlas()
    column0, column1, wu = _axis(u, footprint_u)
    row0, row1, wv = _axis(v, footprint_v)
    base = tile * np.int32(4 * SIDE * SIDE)
    upper = base + row0 * np.int32(2 * SIDE)
    lower = base + row1 * np.int32(2 * SIDE)
    a = atlas.take(upper + column0).astype(np.float32)
    b = atlas.take(upper + column1)
    c = atlas.take(lower + column0).astype(np.float32)
    d = atlas.take(lower + column1)
    a += (b - a) * wu
    c += (d - c) * wu
    a += (c - a) * wv
    a *= np.float32(1.0 / 255.0)
    return a
