"""Inputs of the reported situations."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MODEL = "midas/tiny-conv:weights=none"


def picture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth picture with noise, (height, width, 3) uint8."""
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    base = np.stack([np.sin(9 * x + seed) + y, np.cos(7 * y) + x, np.sin(5 * (x + y))], -1)
    base = (base - base.min()) / np.ptp(base) * 200 + 20
    return np.clip(base + np.random.default_rng(seed).normal(0, 12, base.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder of three PNG photographs."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(picture(48, 64, index)).save(folder / f"p{index}.png")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones left out."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and not p.name.startswith(".")}
