"""Read stored depth maps. The encoding is declared by the user; nothing is guessed from an extension or from values."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, get_args

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from dadkit.errors import DataError, SampleError
from dadkit.files import really

__all__ = ["SUFFIXES", "Encoding", "optional_package", "own_space", "read_depth", "read_exr", "usable"]

OWN_LOW, OWN_HIGH = "dadkit:low", "dadkit:high"
"""Text by which ``dadkit predict`` stores the range of a 16-bit PNG in the file."""

Encoding = Literal["png16", "png8", "carla24", "tiff", "exr", "npy", "npz", "pfm"]
"""How a depth map is stored: greyscale PNG of 16 or 8 bits, CARLA's 24 bits in the colours of a PNG, TIFF, OpenEXR, NumPy
array, NumPy archive, portable float map."""

SUFFIXES: dict[str, tuple[str, ...]] = {
    "png16": (".png",),
    "png8": (".png",),
    "carla24": (".png",),
    "tiff": (".tiff", ".tif"),
    "exr": (".exr",),
    "npy": (".npy",),
    "npz": (".npz",),
    "pfm": (".pfm",),
}
"""File name extensions of each encoding."""

_MAX_BYTES = 2**30  # of one array in an archive, which a few bytes can promise

_RIGHT = {
    "npz": ("a zip archive",),
    "npy": ("a NumPy array",),
    "png16": ("a PNG image",),
    "png8": ("a PNG image",),
    "carla24": ("a PNG image",),
}
"""What a damaged file of an encoding may well be."""

_EXTRAS = {"h5py": "datasets", "scipy.io": "datasets", "OpenEXR": "exr"}


def read_depth(path: str | Path, encoding: Encoding, *, array: str | None = None) -> np.ndarray:
    """Returns the stored numbers, before any scale.

    Args:
        path: the file.
        encoding: ``png16``: one channel of 16 bits; a PNG that dadkit wrote gives the values of its own range, NaN where
            invalid; ``png8``: 8 bits, in one channel or in three equal ones; ``carla24``: (R + 256 G + 65536 B) / (2^24 - 1),
            so that ``scale`` is the far plane, 1000 m in CARLA; ``tiff``: one page, one channel of 16 or 32 bits, integer or
            float; ``exr``: the only channel, or ``Z``, ``Y`` or ``V`` of several, half or float, by the extra ``dadkit[exr]``;
            ``npy``: one array (H, W), (H, W, 1) or (1, H, W) of any real dtype; ``npz``: the same inside an archive; ``pfm``:
            one channel ("Pf"); rows are turned top-down, the header's scale gives the byte order only.
        array: the array's name in an ``npz``, or the channel's in an ``exr``; None takes the only one.

    Returns:
        (H, W) float64: exact for every stored integer and float32.

    Raises:
        SampleError: the file cannot be read or is not what was declared; the message does not name the file.
        DataError: the encoding needs a package that is not installed.
    """
    readers: dict[str, Callable[[Path], np.ndarray]] = {
        "png16": _read_png16,
        "png8": _read_png8,
        "carla24": _read_carla24,
        "tiff": _read_tiff,
        "exr": lambda p: read_exr(p, array),
        "npy": _read_npy,
        "npz": lambda p: _read_npz(p, array),
        "pfm": _read_pfm,
    }
    if encoding not in readers:
        raise ValueError(f"unknown depth encoding {encoding!r}; known are {', '.join(get_args(Encoding))}")
    try:
        values = readers[encoding](Path(path))
    except (SampleError, DataError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise SampleError("the file does not exist") from error
    except UnidentifiedImageError as error:
        raise SampleError(f"cannot be read as {encoding}: {_unknown(path)}") from error
    except Exception as error:  # zip, zlib, struct, tokenizer: each format fails in its own way
        words = really(path)
        reason = f"the file is {words}" if words and words not in _RIGHT.get(encoding, ()) else error or type(error).__name__
        raise SampleError(f"cannot be read as {encoding}: {reason}") from error
    if not isinstance(values, np.ndarray):
        raise SampleError(f"cannot be read as {encoding}: the archive holds no array of NumPy's there")
    if values.ndim > 2:
        values = values.reshape([side for side in values.shape if side != 1])
    if values.ndim != 2 or values.size == 0 or values.dtype.kind not in "fiu":
        raise SampleError(f"a depth map is one real number a pixel, this holds {values.dtype} of shape {values.shape}")
    return values.astype(np.float64)


def _unknown(path: str | Path) -> str:
    """Why Pillow cannot say what a file is."""
    words = really(path)
    return "it is damaged, or of a kind that Pillow does not read" if words in (None, "a PNG image") else f"the file is {words}"


def _better(image: Image.Image) -> str:
    """Returns what to do with a PNG of another mode."""
    if image.format != "PNG":
        return ""
    if image.mode in ("L", "I;16"):
        return f"; encoding: {'png8' if image.mode == 'L' else 'png16'} reads it"
    return "; colours are no depth: store numbers, in one channel" if image.mode in ("RGB", "RGBA", "P") else ""


def _read_png16(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        if image.format != "PNG" or not image.mode.startswith("I"):
            raise SampleError(f"declared as png16, but it is {image.format} with pixels of mode {image.mode!r}{_better(image)}")
        image.load()
        stored = np.asarray(image)
        if OWN_LOW not in image.info:
            return stored
        low, high = float(image.info[OWN_LOW]), float(image.info[OWN_HIGH])
        return np.where(stored > 0, low + (stored.astype(np.float64) - 1) / 65534 * (high - low), np.nan)


def _read_png8(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        if image.format == "PNG" and image.mode in ("RGB", "RGBA", "P"):  # greyscale as many programs store it
            channels = np.asarray(image.convert("RGB"))
            if bool((channels == channels[..., :1]).all()):
                grey: np.ndarray = channels[..., 0]
                return grey
        if image.format != "PNG" or image.mode != "L":
            raise SampleError(f"declared as png8, but it is {image.format} with pixels of mode {image.mode!r}{_better(image)}")
        return np.asarray(image)


def _read_carla24(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        if image.format != "PNG" or image.mode not in ("RGB", "RGBA"):
            raise SampleError(f"declared as carla24, but it is {image.format} with pixels of mode {image.mode!r}")
        red, green, blue = np.moveaxis(np.asarray(image)[..., :3].astype(np.float64), -1, 0)
        return (red + 256 * green + 65536 * blue) / (2**24 - 1)


def _read_tiff(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        if image.format != "TIFF" or image.mode not in ("I;16", "I;16L", "I;16B", "I", "F"):
            raise SampleError(
                f"declared as tiff of 16 or 32 bits in one channel, but it is {image.format} with pixels of mode {image.mode!r}"
            )
        if (pages := getattr(image, "n_frames", 1)) != 1:
            raise SampleError(f"declared as tiff of one page, but it holds {pages}")
        return np.asarray(image)


def read_exr(path: Path, channel: str | None = None) -> np.ndarray:
    """Returns one channel of an OpenEXR file, (H, W) float32.

    Args:
        path: the file.
        channel: its name; None takes the only one, or the first of ``Z``, ``Y``, ``V`` and of the alphabet that is there.

    Raises:
        SampleError: the file cannot be read or has no such channel.
        DataError: OpenEXR is not installed.
    """
    exr: Any = optional_package("OpenEXR", "reading EXR files")
    if not path.is_file():
        raise SampleError("the file does not exist")
    try:
        channels = exr.File(str(path), separate_channels=True).channels()
    except Exception as error:  # the binding raises RuntimeError, ValueError and its own
        reason = "it is cut short or damaged" if "0 parts" in str(error) else error
        raise SampleError(f"cannot be read as EXR: {reason}") from error
    wanted = [channel] if channel is not None else ["Z", "Y", "V", *sorted(channels)]
    name = next((name for name in wanted if name in channels), None)
    if name is None:
        raise SampleError(f"the file has no channel {channel!r}, only {', '.join(sorted(channels))}")
    return np.asarray(channels[name].pixels, dtype=np.float32)


def optional_package(name: str, what: str) -> ModuleType:
    """Returns a package that only some data need.

    Raises:
        DataError: it is not installed; the message says how to get it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise DataError(f"{what} needs the package {name.partition('.')[0]}: pip install 'dadkit[{_EXTRAS[name]}]'") from error


def own_space(path: str | Path) -> str | None:
    """Returns the space that a 16-bit PNG of dadkit's own says it is in; None for any other file."""
    try:
        with Image.open(path) as image:
            return str(image.info["dadkit:space"]) if OWN_LOW in image.info else None
    except Exception:  # whatever is wrong with it is said when its numbers are read
        return None


def _read_npy(path: Path) -> np.ndarray:
    # Mapped, so that a header that promises more than the file holds is an error and not an allocation.
    with path.open("rb") as handle:
        if (head := handle.read(6)) != b"\x93NUMPY" and not head.startswith(b"PK"):
            raise ValueError(f"it begins with {head!r}, not as NumPy's files do")
    try:
        values = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError as error:
        if "Python objects" in str(error):
            raise ValueError("it holds Python objects, and reading them runs code; save the array alone") from error
        raise
    if not isinstance(values, np.ndarray):
        raise SampleError("declared as npy, but it is an archive (npz)")
    return values


def _read_npz(path: Path, array: str | None) -> np.ndarray:
    if not zipfile.is_zipfile(path):
        raise SampleError("declared as npz, but it is no archive")
    with np.load(path, allow_pickle=False) as archive:
        largest = max((entry.file_size for entry in archive.zip.infolist()), default=0)
        if largest > _MAX_BYTES:
            raise SampleError(f"an array of {largest / 1e9:.1f} GB is no depth map")
        if not archive.files:
            raise SampleError("the archive holds no array")
        if array is None and len(archive.files) != 1:
            raise SampleError(f"the archive holds {len(archive.files)} arrays, {', '.join(archive.files)}: say which by array=")
        name = archive.files[0] if array is None else array
        if name not in archive.files:
            raise SampleError(f"the archive has no array {name!r}, only {', '.join(archive.files)}")
        return archive[name]


def _read_pfm(path: Path) -> np.ndarray:
    with path.open("rb") as handle:
        kind = handle.readline().strip()
        if kind != b"Pf":
            raise SampleError(f"a PFM depth map begins with 'Pf', this begins with {kind[:8]!r}")
        width, height = (int(n) for n in handle.readline().split())
        order = "<" if float(handle.readline()) < 0 else ">"
        data = handle.read()
    if width < 1 or height < 1 or len(data) != 4 * width * height:
        raise SampleError(f"the header says {width} x {height}, but {len(data)} bytes of pixels follow")
    return np.frombuffer(data, dtype=order + "f4").reshape(height, width)[::-1]  # rows are stored bottom-up


def usable(
    stored: np.ndarray,
    *,
    scale: float = 1.0,
    min_depth: float | None = None,
    max_depth: float | None = None,
    invalid: Sequence[float] = (),
    sky: float | None = None,
    sky_beyond: float | None = None,
    zero: bool = False,
) -> tuple[Tensor, Tensor]:
    """Turn stored numbers into depth and say where it is known. The one place where validity is decided.

    valid = finite and > 0 (>= 0 with ``zero``) and min_depth <= depth <= max_depth and not marked ``invalid``, or sky.

    Args:
        stored: (H, W), the numbers in the file.
        scale: depth = stored * scale.
        min_depth, max_depth: closed limits in units of ``depth``; None = none. Sky is exempt.
        invalid: stored numbers that mean "unknown"; 0, negative numbers, NaN and infinity do so anyway.
        sky: the stored number that means "infinitely far" (``inf`` may be given); it becomes infinity and is valid.
        sky_beyond: depth farther than this, in units of ``depth``, is sky too.
        zero: 0 is a value, the farthest of a disparity, and not "unknown".

    Returns:
        ``(depth, valid)``, (1, H, W) float32 and bool; depth is 0 where invalid.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        depth = (stored * scale).astype(np.float32)
    valid = np.isfinite(depth) & ((depth >= 0) if zero else (depth > 0))
    if min_depth is not None:
        valid &= depth >= min_depth
    if max_depth is not None:
        valid &= depth <= max_depth
    for value in invalid:
        valid &= stored != value
    depth = np.where(valid, depth, np.float32(0))
    is_sky = np.zeros_like(valid) if sky is None else stored == sky
    if sky_beyond is not None:
        with np.errstate(invalid="ignore", over="ignore"):
            is_sky |= ((stored * scale) > sky_beyond) & np.isfinite(stored) & ~np.isin(stored, list(invalid))
    depth[is_sky] = np.inf
    valid |= is_sky
    return torch.from_numpy(depth)[None], torch.from_numpy(valid)[None]
