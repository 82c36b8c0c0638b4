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
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

__all__ = ["ASKED", "about_image", "about_map", "agreement", "consistency", "duplicates"]

ASKED = ("flip", "agree")
"""Scores that ``--scores`` asks for; each costs time."""

_Map = NDArray[np.float32]


def about_image(source: bytes | Path, image: Tensor) -> dict[str, float | int]:
    """Returns sharpness, dhash, digest, height and width of an image (3, H, W) uint8 and of its file."""
    data = source if isinstance(source, bytes) else source.read_bytes()
    height, width = image.shape[-2:]
    step = max(1, min(height, width) // 256)  # every step-th pixel: a mean over 12 megapixels would cost more than a teacher
    grey = image[:, ::step, ::step].float().mean(0)[None, None]
    small = F.interpolate(grey, (8, 9), mode="area")[0, 0]
    bits = (small[:, 1:] > small[:, :-1]).flatten().tolist()
    laplacian = F.conv2d(grey, torch.tensor([[[[0.0, 1, 0], [1, -4, 1], [0, 1, 0]]]])) if min(grey.shape[-2:]) > 2 else grey * 0
    return {
        "sharpness": float(laplacian.var(correction=0)),
        "dhash": sum(1 << place for place, bit in enumerate(bits) if bit),
        "digest": int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "little"),
        "height": height,
        "width": width,
    }


def about_map(values: _Map) -> dict[str, float]:
    """Returns range and tv of a map (H, W), NaN where invalid; NaN for a map without a valid pixel."""
    known = values[np.isfinite(values)]
    if not known.size:
        return {"range": np.nan, "tv": np.nan}
    low, median, high = np.percentile(known, [2, 50, 98])
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
    x, y = second[known].astype(np.float64), first[known].astype(np.float64)
    scale = np.cov(x, y, bias=True)[0, 1] / max(x.var(), 1e-30)
    return _distance(first, (scale * (second - x.mean()) + y.mean()).astype(np.float32))


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
