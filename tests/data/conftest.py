"""Pictures that the data tests write and read back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

Picture = Callable[..., np.ndarray]


@pytest.fixture
def picture() -> Picture:
    """A function ``(height, width, seed=0) -> (height, width, 3) uint8``: smooth, and different in each corner and channel."""

    def make(height: int = 96, width: int = 128, seed: int = 0) -> np.ndarray:
        y, x = np.mgrid[0:height, 0:width]
        red = 255 * x / max(1, width - 1)
        green = 255 * y / max(1, height - 1)
        blue = np.full_like(red, 37 * (seed + 1) % 256)
        return np.stack([red, green, blue], axis=-1).astype(np.uint8)

    return make


@pytest.fixture
def folder_of(tmp_path: Path, picture: Picture) -> Callable[..., Path]:
    """A function that writes images: ``folder_of("a.jpg", "sub/b.png", size=(96, 128))`` -> the folder."""

    def make(*names: str, size: tuple[int, int] = (96, 128), at: str = "photos") -> Path:
        root = tmp_path / at
        for number, name in enumerate(names):
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture(*size, seed=number)).save(path)
        return root

    return make
