"""What all readers share: finding the folder, reading a pair, saying what is missing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from dadkit.data.folders import stem
from dadkit.data.images import decode
from dadkit.data.packed import PackedStrings
from dadkit.data.sample import Sample, SampleError
from dadkit.errors import DataError
from dadkit.spaces import Space

__all__ = ["Benchmark", "Entry", "camera_matrix", "existing_root", "missing"]

MAX_PIXELS = 200_000_000  # these files are no strangers' uploads; ETH3D's photographs have 24 megapixels


@dataclass(frozen=True)
class Entry:
    """One sample: its key, its image and its depth (below the root, or absolute), and what else the reader needs."""

    key: str
    image: str
    depth: str
    extra: str = ""


class Benchmark(ABC):
    """An image dataset with true depth in files. A subclass lists its entries and decodes a depth map.

    Samples are read as they are stored: EXIF orientation is not applied, since depth belongs to the stored pixels.

    Args:
        root: the dataset's folder, which exists.
        entries: what is in it, at least one.
    """

    title: ClassVar[str]
    home: ClassVar[str]
    space: ClassVar[Space] = Space.METRIC

    def __init__(self, root: Path, entries: Iterable[Entry]) -> None:
        self.root = root
        entries = list(entries)
        self._keys = PackedStrings(entry.key for entry in entries)
        self._images = PackedStrings(entry.image for entry in entries)
        self._depths = PackedStrings(entry.depth for entry in entries)
        self._extras = PackedStrings(entry.extra for entry in entries)

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """The key of a sample, without reading it."""
        return self._keys[index]

    def entry(self, index: int) -> Entry:
        """What is known of a sample before it is read."""
        return Entry(self._keys[index], self._images[index], self._depths[index], self._extras[index])

    def __getitem__(self, index: int) -> Sample:
        entry = self.entry(index)
        path = self.root / entry.image
        try:
            image = self.image(path)
            path = self.root / entry.depth
            depth, valid = self.depth(path, entry, (image.shape[1], image.shape[2]))
            camera = self.camera(entry, (image.shape[1], image.shape[2]))
        except SampleError as error:
            raise SampleError(f"{path}: {error}") from error
        if depth.shape[-2:] != image.shape[-2:]:
            raise SampleError(
                f"{path} is {depth.shape[-1]} x {depth.shape[-2]}, but its image is {image.shape[-1]} x {image.shape[-2]}"
            )
        if not valid.any():
            raise SampleError(f"{path}: no pixel has a valid depth")
        return Sample(image=image, key=entry.key, depth=depth, valid=valid, space=self.space, intrinsics=camera)

    def image(self, path: Path) -> Tensor:
        """(3, H, W) uint8."""
        return decode(path, max_pixels=MAX_PIXELS, upright=False)

    @abstractmethod
    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Depth and validity, (1, H, W) float32 in ``self.space`` and bool; ``size`` is the image's height and width."""

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """(3, 3) camera matrix, pixel centres at half integers; None where the dataset gives none."""
        return None


def existing_root(root: str | Path, dataset: type[Benchmark]) -> Path:
    """The folder as a path.

    Raises:
        DataError: it does not exist; the message says where the dataset can be had.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError(f"{dataset.title}: {root} does not exist (looked for {path.absolute()}). Get it from {dataset.home}")
    return path


def missing(dataset: type[Benchmark], root: Path, looked_for: Sequence[str]) -> DataError:
    """The error for a folder that holds nothing of the dataset."""
    return DataError(
        f"{dataset.title}: nothing of it in {root.absolute()}; looked for {' or '.join(looked_for)}. Get it from {dataset.home}"
    )


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """(3, 3) float32. cx and cy count from the *edge* of the first pixel; add 0.5 to numbers that count from its centre."""
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def entries_of(pairs: Iterable[tuple[str, str]]) -> list[Entry]:
    """(image, depth) paths as entries, keyed by the image's path without extension."""
    return [Entry(stem(image), image, depth) for image, depth in pairs]


def existing_entries(
    entries: Iterable[Entry], dataset: type[Benchmark], root: Path, looked_for: Sequence[str], *, base: Path | None = None
) -> list[Entry]:
    """Those of ``entries`` whose depth is there, below ``base`` (None: below ``root``).

    Raises:
        DataError: there are none.
    """
    found = [entry for entry in entries if ((base or root) / entry.depth).is_file()]
    if not found:
        raise missing(dataset, root, looked_for)
    return found


def bool_mask(values: np.ndarray) -> Tensor:
    """(H, W) or (H, W, 1) of zeros and other numbers as (1, H, W) bool."""
    return torch.from_numpy(np.ascontiguousarray(values.reshape(values.shape[:2]) != 0))[None]
