"""What a prediction becomes: raw floats, 16-bit PNGs with their range, colours, a ControlNet's condition, points, a surface.

Maps are written as PNG, PFM, OpenEXR and NumPy archives, points as PLY, a surface as GLB. OpenEXR is written here so that no
package is needed.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dadkit import pictures
from dadkit.data.label_codec import encode_map, png_bytes
from dadkit.files import atomic_path
from dadkit.interfaces import Prediction, nearest_multiple
from dadkit.prediction.camera import Lens, metres, unproject
from dadkit.spaces import Space, SpaceError

__all__ = [
    "CLOUDS",
    "CONDITIONS",
    "DEFAULT",
    "FORMATS",
    "MOVING",
    "PROBES",
    "check_condition",
    "condition",
    "shared_limits",
    "triangles",
    "write_exr",
    "write_glb",
    "write_npz",
    "write_one",
    "write_pfm",
    "write_ply",
    "write_png",
    "write_prediction",
]


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
    """Returns two triangles for each square of four neighbouring pixels, as indices into the flattened map, (n, 3).

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


FORMATS = {
    "npy": ".npy",
    "npz": ".npz",
    "png16": ".png",
    "pfm": ".pfm",
    "exr": ".exr",
    "color": ".color.png",
    "side": ".side.png",
    "controlnet": ".controlnet.png",
    "controlnet-robust": ".controlnet-robust.png",
    "controlnet-zoe": ".controlnet-zoe.png",
    "ply": ".ply",
    "glb": ".glb",
}
"""Name of a format -> how its files end."""

DEFAULT = ("npy", "png16", "color", "side")
MOVING = {"color": ".color.mp4", "side": ".side.mp4"}
"""Formats that become a video -> how it ends; the others become a folder with a file a frame."""

CLOUDS = ("ply", "glb")
"""Formats that need metres and a focal length."""

PROBES = 24
"""From so many frames or pictures, taken evenly, come limits of colours that all share."""


def shared_limits(depths: Iterable[Tensor], space: Space) -> tuple[float, float]:
    """Returns (low, high) of nearness for the colours of several maps (1, H, W): the medians of their own limits."""
    own = [pictures.percentile_limits(pictures.nearness(depth, space)) for depth in depths]
    low, high = np.median(np.array(own), axis=0)
    return float(low), float(high)


def write_prediction(
    stem: Path,
    image: Tensor,
    depth: Tensor,
    *,
    space: Space,
    valid: Tensor | None,
    formats: Iterable[str],
    model: str,
    lens: Lens | None = None,
    intrinsics: Tensor | None = None,
    more: Mapping[str, Tensor] | None = None,
    limits: tuple[float, float] | None = None,
    note: Callable[[str], None] | None = None,
) -> list[Path]:
    """Write one map in several formats beside each other; each file appears whole or not at all.

    Args:
        stem: path without ending; its folder is made if needed.
        image: (3, H, W) uint8, for the side-by-side picture.
        depth: (1, H, W) float32 in ``space``.
        space: what the numbers mean; stored in the PNG.
        valid: (1, H, W) bool or None.
        formats: names out of :data:`FORMATS`.
        model: name stored in the PNG.
        lens: focal length and scale, for ``ply`` and ``glb``.
        intrinsics: (3, 3), the model's own estimate of the camera.
        more: (1, H, W) maps that go into the ``npz`` under their names.
        limits: (low, high) of nearness for the colours; None = the map's own percentiles.
        note: called with what a person should know, such as pixels that are not in the cloud.

    Returns:
        The written paths.

    Raises:
        dadkit.prediction.camera.CloudError: points are wanted of a map that holds none.
    """
    written = []
    colors = lru_cache(lambda: pictures.colorize(depth, space=space, valid=valid, limits=limits))
    for name in formats:
        path = stem.with_name(stem.name + FORMATS[name])
        with atomic_path(path) as temporary:
            match name:
                case "npy":
                    _write_npy(temporary, _floats(depth, valid))
                case "npz":
                    arrays = {key: value[0].cpu().numpy() for key, value in (more or {}).items()}
                    write_npz(temporary, _floats(depth, valid), space=space, model=model, more=arrays)
                case "pfm":
                    write_pfm(temporary, _floats(depth, valid))
                case "exr":
                    write_exr(temporary, _floats(depth, valid), space=space, model=model)
                case "png16":
                    temporary.write_bytes(encode_map(_floats(depth, valid), "png16", space=Space(space), model=model))
                case "color":
                    write_png(temporary, colors(), _mark(space, model, shows="colors"))
                case "side":
                    sheet = pictures.side_by_side(image, depth, space=space, valid=valid, colored=colors())
                    write_png(temporary, sheet, _mark(space, model, shows="image and colors"))
                case "controlnet" | "controlnet-robust" | "controlnet-zoe":
                    picture = condition(depth, space=Space(space), valid=valid, preset=name)
                    write_png(temporary, picture, _mark(space, model, shows="condition"))
                case "ply" | "glb":
                    points = _points(depth, valid, Space(space), lens or Lens(), intrinsics)
                    left = int((~np.isfinite(points).all(-1)).sum())
                    if left and note is not None:
                        count = "all" if left == points[..., 0].size else f"{left} of {points[..., 0].size}"
                        limit = "" if lens is None or lens.beyond is None else f", or more than {lens.beyond:g},"
                        note(f"{path.name}: {count} pixels have no metres{limit} and are left out")
                    (write_ply if name == "ply" else write_glb)(temporary, points, pictures.to_uint8(image))
        written.append(path)
    return written


def write_one(
    stem: Path,
    image: Tensor,
    prediction: Prediction,
    index: int,
    *,
    formats: Iterable[str],
    model: str,
    lens: Lens | None = None,
    limits: tuple[float, float] | None = None,
    note: Callable[[str], None] | None = None,
) -> list[Path]:
    """:func:`write_prediction` of the ``index``-th map of a batch."""
    return write_prediction(
        stem,
        image,
        prediction.depth[index],
        space=prediction.space,
        valid=None if prediction.valid is None else prediction.valid[index],
        formats=formats,
        model=model,
        lens=lens,
        intrinsics=None if prediction.intrinsics is None else prediction.intrinsics[index],
        more={name: prediction.features[name][index] for name in ("support", "used") if name in prediction.features},
        limits=limits,
        note=note,
    )


def _floats(depth: Tensor, valid: Tensor | None) -> NDArray[np.float32]:
    """(H, W) float32, NaN where invalid."""
    values = depth[0].cpu().float().numpy()
    if valid is not None:
        values = np.where(valid[0].cpu().numpy(), values, np.nan).astype(np.float32)
    return values


def _points(depth: Tensor, valid: Tensor | None, space: Space, lens: Lens, intrinsics: Tensor | None) -> NDArray[np.float64]:
    far = metres(depth, space, lens)
    if valid is not None:
        far = np.where(valid[0].cpu().numpy(), far, np.nan)
    return unproject(far, lens, intrinsics)


def _write_npy(path: Path, values: NDArray[np.float32]) -> None:
    with path.open("wb") as handle:
        np.save(handle, values)


def _mark(space: Space, model: str, **more: str) -> dict[str, str]:
    """Returns the text by which a PNG is known as a result of dadkit: it is not taken for a photograph."""
    return {f"dadkit:{key}": str(value) for key, value in {"space": space, "model": model, **more}.items()}


_MULTIPLE = 16
"""Stable Diffusion takes sides that are multiples of 8, Flux of 16."""
_GREY = 128


CONDITIONS: Mapping[str, tuple[float, float]] = {
    "controlnet": (0, 1),
    "controlnet-robust": (0.02, 0.98),
    "controlnet-zoe": (0.15, 0.98),
}
"""Preset -> quantiles of nearness that become black and white.

The whole range, as MiDaS' condition; without outliers, for pictures with sky or speckles; in metres the 2nd to 85th percentile,
as ZoeDepth's condition.
"""


def check_condition(space: Space, preset: str) -> None:
    """Refuse a preset that maps of this space cannot fill.

    Raises:
        SpaceError: ``controlnet-zoe`` of disparity up to scale and shift, whose metres are not known.
    """
    if preset == "controlnet-zoe" and space is Space.DISPARITY:
        raise SpaceError("controlnet-zoe is linear in depth, and the map is disparity; take a model with metres, or controlnet")


def condition(depth: Tensor, *, space: Space, valid: Tensor | None = None, preset: str = "controlnet") -> NDArray[np.uint8]:
    """Returns the condition of one map for diffusion models: near is white.

    Metres become their inverse (up to scale too); of affine-invariant depth, whose inverse is not known, the sign is turned.
    Pixels that are not valid, not finite, or not in front of the camera, are as far as the farthest.

    Args:
        depth: (1, H, W) in ``space``.
        space: what the numbers mean.
        valid: (1, H, W) bool, True = valid; None: all.
        preset: a key of :data:`CONDITIONS`. ``controlnet-zoe`` is linear in metres, not in their inverse, and needs depth.

    Returns:
        (h, w, 3) uint8; h and w are the multiples of 16 nearest to H and W. A constant map is mid grey.

    Raises:
        SpaceError: ``controlnet-zoe`` of disparity up to scale and shift, whose metres are not known.

    Example:
        >>> condition(torch.linspace(1, 3, 256).reshape(1, 16, 16), space=Space.METRIC)[0, :3, 0].tolist()
        [255, 252, 249]
    """
    linear = preset == "controlnet-zoe"
    check_condition(space, preset)
    inverse = space in (Space.METRIC, Space.SCALE) and not linear
    near = 1 / depth.double() if inverse else depth.double() if space is Space.DISPARITY else -depth.double()
    usable = near.isfinite() if valid is None else near.isfinite() & valid
    if space in (Space.METRIC, Space.SCALE):
        usable = usable & (depth > 0)
    height, width = (nearest_multiple(side, _MULTIPLE) for side in depth.shape[-2:])
    grey = np.full((height, width, 3), _GREY, dtype=np.uint8)
    if not usable.any():
        return grey
    low, high = np.quantile(near[usable].cpu().numpy(), CONDITIONS[preset])
    if low == high:
        return grey
    part = ((near - low) / (high - low)).clamp(0, 1).where(usable, 0)
    resized = F.interpolate(part[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0, 0]
    resized = (resized - resized.min()) / (resized.max() - resized.min())  # averaging has taken the ends in
    grey = (resized * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return np.repeat(grey[..., None], 3, axis=2)
