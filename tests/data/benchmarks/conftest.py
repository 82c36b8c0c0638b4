"""Miniatures of the official layouts, written in the official encodings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.config.components import build
from dadkit.data.sample import Sample
from dadkit.errors import SampleError
from dadkit.plugin import Registry
from dadkit.spaces import Space
from dadkit.testing import Outcome, check_dataset


class Miniature:
    """Writes a dataset's files, and reads them as dadkit does. Sizes are small, and wider than high."""

    height, width = 12, 20

    def depth(self, seed: int = 0, height: int = height, width: int = width) -> np.ndarray:
        """Metres between 1 and 8."""
        return 1 + 7 * np.random.default_rng(seed).random((height, width))

    def image(self, path: Path, height: int = height, width: int = width) -> Path:
        pixels = np.random.default_rng(len(str(path))).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(_with_folder(path), format="JPEG" if path.suffix.lower() == ".jpg" else "PNG")
        return path

    def png16(self, path: Path, values: np.ndarray) -> None:
        Image.fromarray(values.round().astype(np.uint16)).save(_with_folder(path))

    def npy(self, path: Path, values: np.ndarray) -> None:
        np.save(_with_folder(path), values)

    def text(self, path: Path, text: str) -> None:
        _with_folder(path).write_text(text)

    def read(self, name: str, root: Path, **options: Any) -> Any:
        """The reader, which must keep the contract of datasets whatever a test is about (pairs of points have another)."""
        registry = Registry(distributions=[])
        options = {"root": str(root), **options}
        found = build("dataset", name, options, registry=registry)
        if name not in {"da-2k", "diw"} and _is_readable(found):
            results = check_dataset(name, options, registry=registry)
            failed = [f"{result.check}: {result.message}" for result in results if result.outcome is Outcome.FAILED]
            assert not failed, "\n".join(failed)
        return found

    def check(self, sample: Sample, depth: np.ndarray, *, atol: float, space: Space = Space.METRIC) -> None:
        """The sample has this depth where it is valid."""
        assert sample.space is space
        assert sample.image.dtype == torch.uint8
        assert sample.image.shape[1:] == sample.depth.shape[1:] == sample.valid.shape[1:]
        np.testing.assert_allclose(sample.depth[0][sample.valid[0]], depth[sample.valid[0].numpy()], atol=atol)


def _with_folder(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def _is_readable(found: Any) -> bool:
    """False where the test is about files that cannot be read."""
    try:
        return bool(found[0])
    except SampleError:
        return False


@pytest.fixture
def mini() -> Miniature:
    return Miniature()
