"""Sparse metres from files: depth maps with holes, lists of points."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from dadkit.data.depth_files import Encoding, read_depth, usable
from dadkit.data.pairs import Cameras
from dadkit.errors import DataError, SampleError
from dadkit.interfaces import Hints

__all__ = ["HINT_SUFFIXES", "find_hints", "implausible", "read_hints"]

HINT_SUFFIXES: dict[str, Encoding | None] = {
    ".png": "png16",
    ".npy": "npy",
    ".npz": "npz",
    ".pfm": "pfm",
    ".csv": None,
    ".txt": None,
    ".ply": None,
}
"""Ending of a file -> how a depth map is stored in it; None = a list of points, or points in space."""


def read_hints(path: Path, size: tuple[int, int], *, scale: float | None = None, see_through: float | None = None) -> Hints:
    """Returns the points of one file, for a picture of a size.

    Args:
        path: a map of the picture's view, of any size: 16-bit PNG, npy, npz or pfm, where 0, negative, NaN and infinite values
            mean unknown. Or a CSV or TXT of points, one a line: column, row, metres, and perhaps the relative standard
            deviation. A heading is skipped. Or a PLY of points in space with a JSON of the same name beside it: the picture's
            ``fx``, ``fy``, ``cx``, ``cy`` and, if the points are not in the camera's frame, ``pose``, 4 rows of 4 numbers that
            bring them there.
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
        if suffix == ".ply":
            points = torch.from_numpy(_read_ply(path)) * (1.0 if scale is None else scale)
            camera, pose = _camera_beside(path)
            hints = Hints.from_cloud(points, camera, size, pose=pose, see_through=see_through)
        elif encoding is None:
            points = torch.from_numpy(_read_list(path))
            points[:, 2] *= 1.0 if scale is None else scale
            hints = Hints.from_points(points, size, see_through=see_through)
        else:
            depth, valid = usable(_stored(path, encoding, scale), scale=1.0 if scale is None else scale)
            hints = Hints.from_low_resolution(depth[0], valid[0], size, see_through=see_through)
    except SampleError as error:
        raise DataError(f"{path}: {error}") from error
    if not bool(hints.valid.any()):
        raise DataError(f"{path} holds no point with a depth above 0 inside the picture of {size[1]} x {size[0]} pixels")
    return hints


def implausible(hints: Hints) -> str | None:
    """Returns what is odd about the metres, or None: a median that no scene has, which is a wrong unit most times."""
    median = float(hints.depth[hints.valid].median())
    if median > 300:
        return f"the median of the points is {median:.4g} m: millimetres or centimetres? Give --sparse-scale"
    if median < 0.02:
        return f"the median of the points is {median:.4g} m: was the scale given twice? Check --sparse-scale"
    return None


def find_hints(sparse: Path, stems: Sequence[Path]) -> dict[Path, Path]:
    """Returns the file of points for each picture: one file for one picture, or those of a folder with the same names.

    Args:
        sparse: a file or a folder.
        stems: of the pictures: relative paths without ending.

    Returns:
        Stem -> file of points.

    Raises:
        DataError: a picture has none, or several.
    """
    if sparse.is_file():
        if len(stems) != 1:
            raise DataError(
                f"{sparse} is one file, but there are {len(stems)} pictures; give a folder with a file for each name"
            )
        return {stems[0]: sparse}
    if not sparse.is_dir():
        raise DataError(f"{sparse} does not exist; give a file of points, or a folder with one for each picture")
    found: dict[Path, Path] = {}
    for stem in stems:
        there = [path for suffix in HINT_SUFFIXES if (path := sparse / f"{stem}{suffix}").is_file()]
        if len(there) != 1:
            what = "several files of points" if there else "no file of points"
            raise DataError(f"{sparse} holds {what} named {stem} with {', '.join(HINT_SUFFIXES)}; give one for each picture")
        found[stem] = there[0]
    return found


def _stored(path: Path, encoding: Encoding, scale: float | None) -> np.ndarray:
    stored = read_depth(path, encoding)
    if scale is None and bool((stored[np.isfinite(stored)] % 1 == 0).all()):
        raise SampleError("holds whole numbers, so its unit is unknown; say metres a unit (--sparse-scale 0.001 for mm)")
    return stored


def _read_list(path: Path) -> np.ndarray:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise SampleError(f"cannot be read: {error}") from error
    rows = [(number, line.replace(",", " ").replace(";", " ").split()) for number, line in enumerate(lines, 1)]
    rows = [(number, words) for number, words in rows if words and not words[0].startswith("#")]
    if rows and not _is_number(rows[0][1][0]):
        rows = rows[1:]  # a heading
    if not rows:
        raise SampleError("holds no points")
    width = len(rows[0][1])
    for number, words in rows:
        if len(words) != width or width not in (3, 4) or not all(map(_is_number, words)):
            raise SampleError(f"line {number} is no point (column, row, metres, and perhaps sigma): {' '.join(words)[:60]!r}")
    return np.array([[float(word) for word in words] for _, words in rows], dtype=np.float64)


_PLY_TYPES = {
    **dict.fromkeys(("char", "int8"), "i1"),
    **dict.fromkeys(("uchar", "uint8"), "u1"),
    **dict.fromkeys(("short", "int16"), "i2"),
    **dict.fromkeys(("ushort", "uint16"), "u2"),
    **dict.fromkeys(("int", "int32"), "i4"),
    **dict.fromkeys(("uint", "uint32"), "u4"),
    **dict.fromkeys(("float", "float32"), "f4"),
    **dict.fromkeys(("double", "float64"), "f8"),
}
_PLY_ORDERS = {"binary_little_endian": "<", "binary_big_endian": ">", "ascii": ""}


def _read_ply(path: Path) -> np.ndarray:
    """(n, 3) float64: the vertices, which must be the file's first element."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise SampleError(f"cannot be read: {error}") from error
    head, end, body = content.partition(b"end_header")
    lines = [line.split() for line in head.decode("ascii", "replace").splitlines()]
    if not end or lines[0] != ["ply"]:
        raise SampleError("is no PLY file")
    kind = next((words[1] for words in lines if words[:1] == ["format"] and len(words) > 1), "")
    elements = [number for number, words in enumerate(lines) if words[:1] == ["element"]]
    first = lines[elements[0]] if elements else []
    if kind not in _PLY_ORDERS or first[1:2] != ["vertex"] or not first[2].isdecimal():
        raise SampleError(f"holds no vertices first, or its format '{kind}' is unknown")
    stop = elements[1] if len(elements) > 1 else len(lines)
    columns = [words for words in lines[elements[0] + 1 : stop] if words[:1] == ["property"]]
    if any(len(words) != 3 or words[1] not in _PLY_TYPES for words in columns):
        raise SampleError("has vertices with properties that are no plain numbers")
    names, count = [words[2] for words in columns], int(first[2])
    if not {"x", "y", "z"} <= set(names):
        raise SampleError(f"has vertices without x, y, z: {', '.join(names)}")
    body = body[body.index(b"\n") + 1 :]
    try:
        if kind == "ascii":
            rows = np.array([row.split()[: len(names)] for row in body.splitlines()[:count]], dtype=np.float64)
            return rows[:, [names.index(axis) for axis in "xyz"]]
        kinds = np.dtype([(name, _PLY_ORDERS[kind] + _PLY_TYPES[words[1]]) for name, words in zip(names, columns, strict=True)])
        vertices = np.frombuffer(body, kinds, count)
        return np.stack([vertices[axis].astype(np.float64) for axis in "xyz"], 1)
    except (ValueError, IndexError) as error:
        raise SampleError(f"is cut short or damaged: {error}") from error


def _camera_beside(path: Path) -> tuple[torch.Tensor, torch.Tensor | None]:
    file = path.with_suffix(".json")
    if not file.is_file():
        raise SampleError(f"holds points in space, which need the camera: write fx, fy, cx, cy (and pose) into {file}")
    camera = Cameras(file, [path.stem])(path.stem)
    stored = json.loads(file.read_text(encoding="utf-8"))
    pose = stored.get(path.stem, stored).get("pose")
    if pose is None:
        return camera, None
    try:
        matrix = torch.tensor(pose, dtype=torch.float64)
    except (TypeError, ValueError) as error:
        raise SampleError(f"the pose in {file} is no matrix: {error}") from error
    if tuple(matrix.shape) not in ((4, 4), (3, 4)) or not bool(matrix.isfinite().all()):
        raise SampleError(f"the pose in {file} must be 4 rows of 4 finite numbers, got {tuple(matrix.shape)}")
    return camera, matrix


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
