"""Float maps in the formats of other tools: PFM, OpenEXR, NumPy archive."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["write_exr", "write_npz", "write_pfm"]


def write_pfm(path: Path, values: NDArray[np.float32]) -> None:
    """Portable float map: one channel, rows from the bottom up, little endian."""
    height, width = values.shape
    path.write_bytes(f"Pf\n{width} {height}\n-1.0\n".encode() + values[::-1].astype("<f4").tobytes())


def write_npz(
    path: Path, values: NDArray[np.float32], *, space: str, model: str, more: Mapping[str, NDArray[Any]] | None = None
) -> None:
    """Compressed NumPy archive: ``depth`` float32, what it is as ``space`` and ``model``, and further arrays."""
    with path.open("wb") as handle:
        np.savez_compressed(handle, depth=values, space=np.array(space), model=np.array(model), **(more or {}))  # type: ignore[arg-type]


def write_exr(path: Path, values: NDArray[np.float32], *, space: str, model: str) -> None:
    """OpenEXR: one float channel named ``Z``, scan lines from the top, uncompressed; space and model as text attributes.

    Written here, so that no package is needed.
    """
    height, width = values.shape
    window = struct.pack("<4i", 0, 0, width - 1, height - 1)
    attributes = [
        ("channels", "chlist", b"Z\0" + struct.pack("<iB3xii", 2, 0, 1, 1) + b"\0"),  # 2 = float
        ("compression", "compression", b"\0"),
        ("dataWindow", "box2i", window),
        ("displayWindow", "box2i", window),
        ("lineOrder", "lineOrder", b"\0"),
        ("pixelAspectRatio", "float", struct.pack("<f", 1)),
        ("screenWindowCenter", "v2f", struct.pack("<2f", 0, 0)),
        ("screenWindowWidth", "float", struct.pack("<f", 1)),
        ("dadkitSpace", "string", space.encode()),
        ("dadkitModel", "string", model.encode()),
    ]
    header = struct.pack("<ii", 20000630, 2)
    for name, kind, data in attributes:
        header += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(data)) + data
    header += b"\0"
    line = 8 + 4 * width
    first = len(header) + 8 * height
    offsets = struct.pack(f"<{height}Q", *(first + line * y for y in range(height)))
    rows = values.astype("<f4")
    body = b"".join(struct.pack("<ii", y, 4 * width) + rows[y].tobytes() for y in range(height))
    path.write_bytes(header + offsets + body)
