"""How public datasets store depth, where that is more than a PNG or a NumPy array."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dadkit.data.depth_files import optional_package
from dadkit.data.sample import SampleError

__all__ = [
    "planar_from_distance",
    "read_dpt",
    "read_grey",
    "read_h5",
    "read_raw_float",
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
    """The dataset ``name`` of an HDF5 file."""
    h5py: Any = optional_package("h5py", "reading HDF5 files")
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name])
    except FileNotFoundError as error:
        raise SampleError("the file does not exist") from error
    except (OSError, KeyError) as error:
        raise SampleError(f"cannot be read as HDF5 with a dataset {name!r}: {error}") from error


def read_grey(path: Path) -> np.ndarray:
    """A one-channel image of 1, 8 or 16 bits as it is stored. (H, W)."""
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
