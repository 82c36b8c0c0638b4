"""What all readers share: finding the folder, reading a pair and its depth encoding, split lists, saying what is missing.

Split lists have the format in which the field shares them: paths separated by white space, one sample a line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, ClassVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dadkit.data.depth_files import optional_package, usable
from dadkit.data.folders import stem
from dadkit.data.images import decode
from dadkit.data.packed import PackedStrings
from dadkit.data.sample import Sample
from dadkit.errors import DataError, SampleError
from dadkit.interfaces import Hints
from dadkit.spaces import Space

__all__ = [
    "NOTHING",
    "Benchmark",
    "Entry",
    "beneath",
    "camera_matrix",
    "existing_root",
    "find_list",
    "listed_entries",
    "missing",
    "planar_from_distance",
    "read_columns",
    "read_dpt",
    "read_grey",
    "read_h5",
    "read_raw_float",
    "sparse_png",
    "unrotated",
]


_DPT_TAG = 202021.25


def read_dpt(path: Path) -> np.ndarray:
    """Sintel's ``.dpt``: float32 tag 202021.25, int32 width and height, float32 metres by rows, all little endian. (H, W)."""
    data = _bytes(path)
    if len(data) < 12 or np.frombuffer(data[:4], "<f4")[0] != np.float32(_DPT_TAG):
        raise SampleError("is no Sintel depth file: it does not begin with the tag 202021.25")
    width, height = (int(n) for n in np.frombuffer(data[4:12], "<i4"))
    if width < 1 or height < 1 or len(data) != 12 + 4 * width * height:
        raise SampleError(f"the header says {width} x {height}, but {len(data) - 12} bytes of pixels follow")
    return np.frombuffer(data[12:], "<f4").reshape(height, width)


def read_raw_float(path: Path, size: tuple[int, int]) -> np.ndarray:
    """ETH3D's depth: float32 by rows without a header, little endian; ``size`` is the image's height and width. (H, W)."""
    data = _bytes(path)
    if len(data) != 4 * size[0] * size[1]:
        raise SampleError(
            f"holds {len(data)} bytes, where the image's {size[1]} x {size[0]} pixels need {4 * size[0] * size[1]}"
        )
    return np.frombuffer(data, "<f4").reshape(size)


def read_h5(path: Path, name: str) -> np.ndarray:
    """Returns the dataset ``name`` of an HDF5 file."""
    h5py: Any = optional_package("h5py", "reading HDF5 files")
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name])
    except FileNotFoundError as error:
        raise SampleError("the file does not exist") from error
    except (OSError, KeyError) as error:
        raise SampleError(f"cannot be read as HDF5 with a dataset {name!r}: {error}") from error


def read_grey(path: Path) -> np.ndarray:
    """Returns a one-channel image of 1, 8 or 16 bits as it is stored. (H, W)."""
    try:
        with Image.open(path) as image:
            image.load()
            values = np.asarray(image)
    except FileNotFoundError as error:
        raise SampleError("the file does not exist") from error
    except Exception as error:  # decoders raise whatever their libraries do
        raise SampleError(f"cannot be decoded: {error}") from error
    if values.ndim == 3:
        if not (values[..., :1] == values[..., :3]).all():
            raise SampleError(f"a one-channel image was expected, this is {values.shape}")
        values = values[..., 0]
    return values


def planar_from_distance(distance: np.ndarray, focal: float) -> np.ndarray:
    """Depth along the optical axis from the distance to the camera's centre, for a principal point in the middle.

    Hypersim stores distances. z = distance * f / sqrt(x^2 + y^2 + f^2), x and y from the middle to the pixel's centre.
    """
    height, width = distance.shape
    x = np.arange(width) + 0.5 - width / 2
    y = np.arange(height) + 0.5 - height / 2
    return np.asarray(distance * (focal / np.sqrt(x[None] ** 2 + y[:, None] ** 2 + focal**2)))


def unrotated(stored: np.ndarray) -> np.ndarray:
    """SUN RGB-D's 16-bit numbers, which are millimetres with the lowest three bits turned to the top."""
    values = stored.astype(np.uint16)
    return (values >> 3) | (values << 13)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise SampleError("the file does not exist") from error
    except OSError as error:
        raise SampleError(f"cannot be read: {error.strerror or error}") from error


NOTHING = "None"
"""What KITTI's list says where an image has no depth."""


def find_list(root: Path, given: str | Path | None, names: Sequence[str]) -> Path | None:
    """Returns the list file: the given one (as it is, or below the root), or the first of ``names`` that lies below the root.

    Raises:
        DataError: the given one does not exist.
    """
    if given is not None:
        for path in (Path(given).expanduser(), root / given):
            if path.is_file():
                return path
        raise DataError(f"the list {given} does not exist (looked for {Path(given).absolute()} and {root / given})")
    return next((root / name for name in names if (root / name).is_file()), None)


def read_columns(path: Path, least: int) -> list[list[str]]:
    """Returns the lines of a list, split at white space; blank lines and lines that begin with ``#`` are left out.

    Raises:
        DataError: the file cannot be read, holds no line, or a line has fewer than ``least`` columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if not columns or line.lstrip().startswith("#"):
            continue
        if len(columns) < least:
            raise DataError(f"{path}, line {number}: expected {least} columns separated by white space, got {line!r}")
        rows.append(columns)
    if not rows:
        raise DataError(f"the list {path} names no file")
    return rows


def beneath(root: Path, names: Sequence[str], dataset: type[Benchmark], *, prefixes: Sequence[str] = ("",)) -> list[str]:
    """Returns the paths of a list as they lie below ``root``: leading folders dropped or one of ``prefixes`` put before.

    Public lists begin at different folders, or with the absolute path of their author's disk. How many folders to drop and what
    to put before is found out on the first few names that exist, and is then the same for all.

    Raises:
        DataError: none of the names exists below the root in any way.
    """
    for name in names[:50]:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for drop in range(len(parts)):
            for prefix in prefixes:
                if Path(root, prefix, *parts[drop:]).is_file():
                    return [str(PurePosixPath(prefix, *PurePosixPath(n.replace("\\", "/")).parts[drop:])) for n in names]
    raise missing(dataset, root, [f"{prefix}{'/' if prefix else ''}{names[0]}" for prefix in prefixes])


def listed_entries(path: Path, root: Path, dataset: type[Benchmark], *, prefixes: Sequence[str] = ("",)) -> list[Entry]:
    """Returns the entries that a list names, an image and its depth in the first two columns; errors as in the
    functions above.
    """
    rows = read_columns(path, 2)
    images, depths = (beneath(root, [row[column] for row in rows], dataset, prefixes=prefixes) for column in (0, 1))
    return entries_of(zip(images, depths, strict=True))


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
        """Returns the key of a sample, without reading it."""
        return self._keys[index]

    def entry(self, index: int) -> Entry:
        """Returns what is known of a sample before it is read."""
        return Entry(self._keys[index], self._images[index], self._depths[index], self._extras[index])

    def __getitem__(self, index: int) -> Sample:
        entry = self.entry(index)
        path = self.root / entry.image
        try:
            image = self.image(path)
            path = self.root / entry.depth
            depth, valid = self.depth(path, entry, (image.shape[1], image.shape[2]))
            camera = self.camera(entry, (image.shape[1], image.shape[2]))
            hints = self.hints(entry, (image.shape[1], image.shape[2]))
        except SampleError as error:
            raise SampleError(f"{path}: {error}") from error
        if depth.shape[-2:] != image.shape[-2:]:
            raise SampleError(
                f"{path} is {depth.shape[-1]} x {depth.shape[-2]}, but its image is {image.shape[-1]} x {image.shape[-2]}"
            )
        if not valid.any():
            raise SampleError(f"{path}: no pixel has a valid depth")
        return Sample(image=image, key=entry.key, depth=depth, valid=valid, space=self.space, intrinsics=camera, hints=hints)

    def image(self, path: Path) -> Tensor:
        """(3, H, W) uint8."""
        return decode(path, max_pixels=MAX_PIXELS, upright=False)

    @abstractmethod
    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Depth and validity, (1, H, W) float32 in ``self.space`` and bool; ``size`` is the image's height and width."""

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """(3, 3) camera matrix, pixel centres at half integers; None where the dataset gives none."""
        return None

    def hints(self, entry: Entry, size: tuple[int, int]) -> Hints | None:
        """Sparse metres of batch size 1 for the image; None where the dataset gives none."""
        return None


def existing_root(root: str | Path, dataset: type[Benchmark]) -> Path:
    """Returns the folder as a path.

    Raises:
        DataError: it does not exist; the message says where the dataset can be had.
    """
    path = Path(root).expanduser()
    if not path.exists():
        raise DataError(f"{dataset.title}: {root} does not exist (looked for {path.absolute()}). Get it from {dataset.home}")
    return path


def missing(dataset: type[Benchmark], root: Path, looked_for: Sequence[str]) -> DataError:
    """Returns the error for a folder that holds nothing of the dataset."""
    return DataError(
        f"{dataset.title}: nothing of it in {root.absolute()}; looked for {' or '.join(looked_for)}. Get it from {dataset.home}"
    )


def camera_matrix(fx: float, fy: float, cx: float, cy: float) -> Tensor:
    """(3, 3) float32. cx and cy count from the *edge* of the first pixel; add 0.5 to numbers that count from its centre."""
    return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def sparse_png(path: Path) -> Hints:
    """Sparse metres of a 16-bit PNG of metres * 256, 0 = unknown: what KITTI, VOID and VPP4DC's DDAD store."""
    depth, valid = usable(read_grey(path), scale=1 / 256)
    return Hints(depth[None], valid[None])


def entries_of(pairs: Iterable[tuple[str, str]]) -> list[Entry]:
    """(image, depth) paths as entries, keyed by the image's path without extension."""
    return [Entry(stem(image), image, depth) for image, depth in pairs]


def existing_entries(
    entries: Iterable[Entry], dataset: type[Benchmark], root: Path, looked_for: Sequence[str], *, base: Path | None = None
) -> list[Entry]:
    """Returns those of ``entries`` whose depth is there, below ``base`` (None: below ``root``).

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
