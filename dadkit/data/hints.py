"""Sparse metres from files: depth maps with holes, lists of points."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import torch

from dadkit.data.depth_files import Encoding, read_depth, usable
from dadkit.data.sample import SampleError
from dadkit.errors import DataError
from dadkit.interfaces import Hints

__all__ = ["HINT_SUFFIXES", "find_hints", "implausible", "read_hints"]

HINT_SUFFIXES: dict[str, Encoding | None] = {
    ".png": "png16",
    ".npy": "npy",
    ".npz": "npz",
    ".pfm": "pfm",
    ".csv": None,
    ".txt": None,
}
"""Ending of a file -> how a depth map is stored in it; None = a list of points."""


def read_hints(path: Path, size: tuple[int, int], *, scale: float | None = None, see_through: float | None = None) -> Hints:
    """The points of one file, for a picture of a size.

    Args:
        path: a map of the picture's view (16-bit PNG, npy, npz, pfm; 0, negative, NaN and infinite values = unknown), of the
            picture's size or smaller; or a CSV or TXT of points, one a line: column, row, metres, and perhaps the relative
            standard deviation; a heading is skipped.
        size: (H, W) of the picture.
        scale: metres = stored number x scale. Integers need it (0.001 for millimetres, 1/256 for KITTI's PNGs).
        see_through: see :meth:`dadkit.interfaces.Hints.from_points`.

    Returns:
        Hints of batch size 1.

    Raises:
        DataError: the file cannot be read, its unit is unknown, or it holds no point inside the picture.
    """
    suffix = path.suffix.lower()
    if suffix not in HINT_SUFFIXES:
        raise DataError(f"{path}: points come as {', '.join(HINT_SUFFIXES)}, not as '{path.suffix}'")
    encoding = HINT_SUFFIXES[suffix]
    try:
        if encoding is None:
            points = torch.from_numpy(_read_list(path))
            points[:, 2] *= 1.0 if scale is None else scale
            hints = Hints.from_points(points, size, see_through=see_through)
        else:
            stored = read_depth(path, encoding)
            if scale is None and bool((stored[np.isfinite(stored)] % 1 == 0).all()):
                raise SampleError(
                    "holds whole numbers, so its unit is unknown; say metres a unit (--sparse-scale 0.001 for mm)"
                )
            depth, valid = usable(stored, scale=1.0 if scale is None else scale)
            if depth.shape[-2] > size[0] or depth.shape[-1] > size[1]:
                whole = Hints(depth[None], valid[None])
                hints = whole.at_size(size)
            else:
                hints = Hints.from_low_resolution(depth[0], valid[0], size)
            if see_through is not None:
                row, column = hints.valid[0, 0].nonzero().double().unbind(1)
                z = hints.depth[hints.valid].double()
                hints = Hints.from_points(torch.stack((column, row, z), 1), size, see_through=see_through)
    except SampleError as error:
        raise DataError(f"{path}: {error}") from error
    if not bool(hints.valid.any()):
        raise DataError(f"{path} holds no point with a depth above 0 inside the picture of {size[1]} x {size[0]} pixels")
    return hints


def implausible(hints: Hints) -> str | None:
    """What is odd about the metres, or None: a median that no scene has, which is a wrong unit most times."""
    median = float(hints.depth[hints.valid].median())
    if median > 300:
        return f"the median of the points is {median:.4g} m: millimetres or centimetres? Give --sparse-scale"
    if median < 0.02:
        return f"the median of the points is {median:.4g} m: was the scale given twice? Check --sparse-scale"
    return None


def find_hints(sparse: Path, images: list[tuple[Path, Path]]) -> dict[Path, Path]:
    """The file of points for each picture: one file for one picture, or those of a folder with the same names.

    Args:
        sparse: a file or a folder.
        images: (file, relative stem) of the pictures.

    Returns:
        Picture -> file of points.

    Raises:
        DataError: a picture has none, or several.
    """
    if sparse.is_file():
        if len(images) != 1:
            raise DataError(
                f"{sparse} is one file, but there are {len(images)} pictures; give a folder with a file for each name"
            )
        return {images[0][0]: sparse}
    if not sparse.is_dir():
        raise DataError(f"{sparse} does not exist; give a file of points, or a folder with one for each picture")
    found: dict[Path, Path] = {}
    for image, stem in images:
        here = [sparse / f"{stem}{suffix}" for suffix in HINT_SUFFIXES]
        there = [path for path in here if path.is_file()]
        if len(there) != 1:
            what = "no file of points" if not there else f"several files of points ({', '.join(p.name for p in there)})"
            raise DataError(f"{what} for {image} in {sparse}; looked for {stem} with {', '.join(HINT_SUFFIXES)}")
        found[image] = there[0]
    return found


def _stored(path: Path, encoding: Encoding, scale: float | None) -> np.ndarray:
    stored = read_depth(path, encoding)
    if scale is None and bool((stored[np.isfinite(stored)] % 1 == 0).all()):
        raise SampleError("holds whole numbers, so its unit is unknown; say metres a unit (--sparse-scale 0.001 for mm)")
    return stored


def _read_list(path: Path) -> np.ndarray:
    rows: list[list[float]] = []
    try:
        with path.open(newline="", encoding="utf-8-sig") as handle:
            for number, line in enumerate(handle, 1):
                words = next(csv.reader([line.replace(";", ",").replace("\t", ",")]), [])
                words = words if len(words) > 1 else line.split()
                if not words or line.lstrip().startswith("#"):
                    continue
                try:
                    values = [float(word) for word in words]
                except ValueError:
                    if not rows and number == 1:
                        continue  # a heading
                    raise SampleError(f"line {number} holds no numbers: {line.strip()[:60]!r}") from None
                if len(values) not in (3, 4) or (rows and len(values) != len(rows[0])):
                    raise SampleError(f"line {number}: a point is column, row, metres[, sigma], this has {len(values)} numbers")
                rows.append(values)
    except (OSError, UnicodeDecodeError) as error:
        raise SampleError(f"cannot be read: {error}") from error
    if not rows:
        raise SampleError("holds no points")
    return np.array(rows, dtype=np.float64)
