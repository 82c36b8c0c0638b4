"""The files that a map becomes: PNG, PFM, OpenEXR and NumPy archives; points as PLY, a surface as GLB.

OpenEXR is written here so that no package is needed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dadkit.data.png import png_bytes

__all__ = ["triangles", "write_exr", "write_glb", "write_npz", "write_pfm", "write_ply", "write_png"]


def write_png(path: Path, pixels: NDArray[np.uint8] | NDArray[np.uint16], text: Mapping[str, str] | None = None) -> None:
    """Write a PNG.

    Args:
        path: where to.
        pixels: (H, W) grey uint8 or uint16, or (H, W, 3) RGB uint8.
        text: keyword -> Latin-1 or other text, stored before the pixels.
    """
    path.write_bytes(png_bytes(pixels, text))


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


_FLOAT, _UBYTE, _UINT = 5126, 5121, 5125  # glTF's component types
_VERTICES, _INDICES = 34962, 34963


def write_ply(path: Path, points: NDArray[np.float64], colors: NDArray[np.uint8]) -> None:
    """Write the finite points of a map as a binary PLY: x right, y down, z forward, metres.

    Args:
        path: where to.
        points: (H, W, 3).
        colors: (H, W, 3) RGB.
    """
    keep = np.isfinite(points).all(-1)
    vertices = np.empty(int(keep.sum()), dtype=[("xyz", "<f4", 3), ("rgb", "u1", 3)])
    vertices["xyz"], vertices["rgb"] = points[keep], colors[keep]
    names = [f"property float {axis}" for axis in "xyz"] + [f"property uchar {color}" for color in ("red", "green", "blue")]
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(vertices)}", *names, "end_header", ""]
    path.write_bytes("\n".join(header).encode() + vertices.tobytes())


def write_glb(path: Path, points: NDArray[np.float64], colors: NDArray[np.uint8], *, edge_ratio: float = 1.1) -> None:
    """Write the surface through a map's points as binary glTF 2.0: x right, y *up*, z backward, as glTF has it; unlit.

    Args:
        path: where to.
        points: (H, W, 3), x right, y down, z forward.
        colors: (H, W, 3) RGB.
        edge_ratio: see :func:`triangles`.
    """
    faces = triangles(points[..., 2], edge_ratio)
    used, faces = np.unique(faces, return_inverse=True)
    positions = (points.reshape(-1, 3)[used] * [1, -1, -1]).astype("<f4")
    rgba = np.concatenate([colors.reshape(-1, 3)[used], np.full((len(used), 1), 255, np.uint8)], axis=1)
    buffers = [positions.tobytes(), rgba.tobytes(), faces.astype("<u4").tobytes()]
    starts = np.cumsum([0, *map(len, buffers)]).tolist()
    views = [
        {"buffer": 0, "byteOffset": start, "byteLength": len(data), "target": target}
        for start, data, target in zip(starts, buffers, (_VERTICES, _VERTICES, _INDICES), strict=False)
    ]
    bounds = {"min": positions.min(0).tolist(), "max": positions.max(0).tolist()} if len(used) else {}
    scene = {
        "asset": {"version": "2.0", "generator": "dadkit"},
        "extensionsUsed": ["KHR_materials_unlit"],
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "materials": [{"doubleSided": True, "extensions": {"KHR_materials_unlit": {}}}],
        "meshes": [{"primitives": [{"attributes": {"POSITION": 0, "COLOR_0": 1}, "indices": 2, "material": 0}]}],
        "accessors": [
            {"bufferView": 0, "componentType": _FLOAT, "count": len(used), "type": "VEC3", **bounds},
            {"bufferView": 1, "componentType": _UBYTE, "count": len(used), "type": "VEC4", "normalized": True},
            {"bufferView": 2, "componentType": _UINT, "count": faces.size, "type": "SCALAR"},
        ],
        "bufferViews": views,
        "buffers": [{"byteLength": starts[-1]}],
    }
    text = json.dumps(scene, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 4)
    data = b"".join(buffers)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text + struct.pack("<II", len(data), 0x004E4942) + data
    path.write_bytes(struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks)


def triangles(depth: NDArray[np.float64], edge_ratio: float) -> NDArray[np.int64]:
    """Two triangles for each square of four neighbouring pixels, as indices into the flattened map, (n, 3).

    A triangle is left out where a corner is not finite, or where the farthest corner is more than ``edge_ratio`` times as far
    as the nearest: there one thing ends and another begins.
    """
    height, width = depth.shape
    index = np.arange(height * width).reshape(height, width)
    a, b, c, d = index[:-1, :-1], index[:-1, 1:], index[1:, :-1], index[1:, 1:]
    faces = np.concatenate([np.stack([a, c, b], -1).reshape(-1, 3), np.stack([b, c, d], -1).reshape(-1, 3)])
    corners = depth.reshape(-1)[faces]
    with np.errstate(invalid="ignore"):
        near, far = corners.min(1), corners.max(1)
        kept: NDArray[np.int64] = faces[np.isfinite(near) & np.isfinite(far) & (far <= edge_ratio * near)]
    return kept
