"""Datasets whose samples tell who they are, and streams over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.contexts import LocalGlobal
from dadkit.data import Batch, Member, Sample, SampleError, Stream
from dadkit.spaces import Space

CONTEXTS = LocalGlobal(view_size=24, crop_min=32, patch_size=24, overlap=4)


class Numbers:
    """Sample i is an image full of i, in another size each; those in ``broken`` cannot be read."""

    def __init__(self, count: int, broken: Sequence[int] = (), space: Space | None = None, first: int = 0) -> None:
        self.count, self.broken, self.space, self.first = count, frozenset(broken), space, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise SampleError(f"file-{index}: broken")
        height, width = 40 + index % 7, 40 + index % 11
        image = torch.full((3, height, width), (self.first + index) % 256, dtype=torch.uint8)
        depth = None if self.space is None else torch.full((1, height, width), float(index + 1))
        return Sample(image, str(self.first + index), depth, None, self.space)


@pytest.fixture
def numbers() -> type[Numbers]:
    return Numbers


@pytest.fixture
def contexts() -> LocalGlobal:
    return CONTEXTS


@pytest.fixture
def noisy() -> Callable[[torch.Tensor, torch.Generator], torch.Tensor]:
    """A perturbation: nothing is left of the image."""

    def make(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return torch.randint(0, 256, image.shape, generator=generator, dtype=torch.uint8)

    return make


@pytest.fixture
def stream() -> Callable[..., Stream]:
    """``stream(*datasets, weights=(), **options)``."""

    def make(*datasets: Any, weights: Sequence[float] = (), **options: Any) -> Stream:
        weights = weights or [1.0] * len(datasets)
        members = [Member(f"d{i}", d, w) for i, (d, w) in enumerate(zip(datasets, weights, strict=True))]
        return Stream(members, **({"contexts": CONTEXTS, "batch_size": 4, "seed": 0, "name": "main/unlabelled"} | options))

    return make


@pytest.fixture
def same() -> Callable[[Batch, Batch], bool]:
    """Whether two batches are equal bit by bit."""

    def compare(first: Batch, second: Batch) -> bool:
        ours, theirs = dict(first.tensors()), dict(second.tensors())
        return (
            first.keys == second.keys
            and ours.keys() == theirs.keys()
            and all(torch.equal(ours[name], theirs[name]) for name in ours)
        )

    return compare


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """100 photographs of which 10 are corrupt in different ways, some of them side by side."""
    random = np.random.default_rng(0)
    for number in range(100):
        path = tmp_path / f"{number:03d}.jpg"
        Image.fromarray(random.integers(0, 255, (66, 70, 3), dtype=np.uint8)).save(path)
        data = path.read_bytes()
        corrupt = {7: b"", 20: data[:500], 21: b"<html>", 22: data[: len(data) // 2], 23: b"x" * 50}
        corrupt |= {50: data[:2], 51: data[100:], 80: b"\0" * 900, 81: data[:700], 99: b"RIFF"}
        path.write_bytes(corrupt.get(number, data))
    return tmp_path
