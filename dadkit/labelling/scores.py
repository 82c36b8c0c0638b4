"""Numbers about each label, stored in the side index and used only where a configuration says so.

They are cheap ones that every label gets, and those that cost a forward pass or need a second teacher:

========== ===================================================================================================
range      98th minus 2nd percentile of the map, divided by the absolute median
tv         mean absolute difference of neighbours, divided by that spread: high for noisy maps
sharpness  variance of the Laplacian of the grey picture at 256 pixels: low for blurred pictures
dhash      64 bits of a 9 x 8 grey picture: near duplicates differ in few bits
digest     64 bits of the hash of the image file: equal for exact duplicates
height     rows of the image
width      columns of the image
flip       mean absolute difference to the map of the mirrored picture, divided by the map's mean absolute deviation
agree      the same between the first two teachers, after the best scale and shift
========== ===================================================================================================
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dadkit.alignment.affine import line

__all__ = ["ASKED", "about_image", "about_map", "agreement", "consistency", "duplicates"]

ASKED = ("flip", "agree")
"""Scores that ``--scores`` asks for; each costs time."""

_Map = NDArray[np.float32]
_ENOUGH = 20_000  # values that tell percentiles


def about_image(data: bytes, image: Tensor, size: tuple[int, int]) -> dict[str, float | int]:
    """Returns sharpness, dhash, digest, height and width.

    Args:
        data: the image's file.
        image: (3, H, W) uint8, perhaps decoded at a fraction of its size.
        size: the whole (height, width).
    """
    step = max(1, min(image.shape[-2:]) // 256)  # every step-th pixel: a mean over 12 megapixels would cost more than a teacher
    pixels = image[:, ::step, ::step].permute(1, 2, 0).numpy()
    grey = pixels[..., 0].astype(np.int16)  # three times the grey value
    grey += pixels[..., 1]
    grey += pixels[..., 2]
    return {
        "sharpness": _sharpness(grey),
        "dhash": _dhash(grey),
        "digest": int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"),
        "height": size[0],
        "width": size[1],
    }


def _sharpness(grey: NDArray[np.int16]) -> float:
    if min(grey.shape) < 3:
        return 0.0
    edges = grey[:-2, 1:-1] + grey[2:, 1:-1]  # at most 4 * 765, so 16 bits hold it
    edges += grey[1:-1, :-2]
    edges += grey[1:-1, 2:]
    edges -= 4 * grey[1:-1, 1:-1]
    flat = edges.ravel().astype(np.float32)
    return (float(np.dot(flat, flat)) / flat.size - float(flat.mean(dtype=np.float64)) ** 2) / 9


def _dhash(grey: NDArray[np.int16]) -> int:
    height, width = grey.shape
    rows, columns = np.arange(8) * height // 8, np.arange(9) * width // 9
    sums = np.add.reduceat(np.add.reduceat(grey, rows, axis=0, dtype=np.int64), columns, axis=1)
    means = sums / np.diff(columns, append=width)
    bits = (means[:, 1:] > means[:, :-1]).ravel().tolist()
    return sum(1 << place for place, bit in enumerate(bits) if bit)


def about_map(values: _Map) -> dict[str, float]:
    """Returns range and tv of a map (H, W), NaN where invalid; NaN for a map without a valid pixel."""
    known = values[np.isfinite(values)]
    if not known.size:
        return {"range": np.nan, "tv": np.nan}
    low, median, high = np.percentile(known[:: max(1, known.size // _ENOUGH)], [2, 50, 98])
    spread = max(float(high - low), 1e-12)
    steps = np.concatenate([np.abs(np.diff(values, axis=axis)).ravel() for axis in (0, 1)])
    steps = steps[np.isfinite(steps)]
    return {"range": spread / max(abs(float(median)), 1e-12), "tv": float(steps.mean()) / spread if steps.size else 0.0}


def consistency(values: _Map, mirrored: _Map) -> float:
    """Returns the flip score of a map and of the map of the mirrored picture, which is not turned back yet."""
    return _distance(values, mirrored[:, ::-1])


def agreement(first: _Map, second: _Map) -> float:
    """Returns the distance of two teachers' maps after the best scale and shift of the second; NaN if there is none."""
    if second.shape != first.shape:
        grown = F.interpolate(torch.from_numpy(np.ascontiguousarray(second))[None, None], first.shape, mode="nearest")
        second = grown[0, 0].numpy()
    known = np.isfinite(first) & np.isfinite(second)
    if known.sum() < 2:
        return float("nan")
    scale, shift = line(*(torch.from_numpy(values[known]).double() for values in (second, first)))
    return _distance(first, (scale * second + shift).astype(np.float32))


def _distance(first: _Map, second: _Map) -> float:
    known = np.isfinite(first) & np.isfinite(second)
    if not known.any():
        return float("nan")
    x, y = first[known], second[known]
    return float(np.abs(x - y).mean() / max(float(np.abs(x - np.median(x)).mean()), 1e-12))


def duplicates(hashes: Sequence[int] | NDArray[np.uint64], *, distance: int = 4) -> NDArray[np.int64]:
    """Returns for each image the place of the first one that it is a near duplicate of; its own place if it is none.

    Hashes that differ in at most ``distance`` < 5 bits agree in one of five groups of bits, so only such pairs are compared.
    An image is compared with those that are no duplicates themselves.

    >>> duplicates([0, 255 << 40, 3]).tolist()
    [0, 1, 0]
    """
    if not 0 <= distance < 5:
        raise ValueError(f"the distance must be 0 to 4 bits, got {distance}")
    values = [int(value) for value in hashes]
    found = np.arange(len(values))
    groups: dict[tuple[int, int], list[int]] = {}
    for place, value in enumerate(values):
        parts = [(part, value >> 13 * part & 8191) for part in range(5)]
        near = (other for part in parts for other in groups.get(part, ()) if (values[other] ^ value).bit_count() <= distance)
        original = min(near, default=place)
        found[place] = original
        if original == place:
            for part in parts:
                groups.setdefault(part, []).append(place)
    return found
