"""The camera's part: automatic exposure, white balance, tone curve, vignette, noise, 8 bits."""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from dadkit_procedural.scene import Photo

__all__ = ["develop"]

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
