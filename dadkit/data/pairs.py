"""Images with depth maps beside them, in mirrored folders or named by a list."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dadkit.data.depth_files import SUFFIXES, Encoding, own_space, read_depth, usable
from dadkit.data.folders import normalise_extensions, read_list, scan, stem
from dadkit.data.images import MAX_PIXELS, decode, exif_camera
from dadkit.data.packed import PackedStrings
from dadkit.data.sample import Sample
from dadkit.data.sources import inside, keys_with_suffix
from dadkit.errors import DataError, SampleError
from dadkit.spaces import Space

__all__ = ["Cameras", "DepthPairs"]


_LARGEST = {"png16": 65535, "png8": 255, "carla24": 1.0}
_FARTHEST = 10_000.0  # metres
_SUSPICIOUS = 0.005  # of the pixels
_OTHER_VIEW = 0.1  # difference of the logarithms of two aspect ratios: 10 %


class DepthPairs:
    """Images with their depth, stored in a declared encoding and space.

    Two layouts. **Mirrored folders**: ``root/images/a/b.jpg`` has its depth in ``root/depth/a/b.png`` (or ``.npy``, …); keys
    are the images' paths below ``images``, without extension. **A list file**: each line names an image and its depth, between
    them a tab or a comma, or blanks, relative to the list's folder; keys are the images' paths, without extension. A third
    column, such as KITTI's focal length, is not read. Lines whose depth is ``None`` are left out and counted.

    Common datasets: KITTI ``encoding="png16", scale=1/256``; ScanNet, NYU ``scale=0.001``; Virtual KITTI 2 ``scale=0.01,
    sky=65535``; DIODE ``images=".", depths=".", encoding="npy", depth_suffix="_depth"``.

    Args:
        root: the folder, or the list file (``.txt``, ``.tsv``, ``.csv``).
        encoding: how depth is stored: ``png16``, ``png8``, ``carla24``, ``tiff``, ``exr``, ``npy``, ``npz``, ``pfm``, see
            :func:`dadkit.data.depth_files.read_depth`. 16-bit PNGs that dadkit wrote carry their range and their space.
        space: what the numbers are: ``metric`` (metres along the optical axis), ``depth`` or ``disparity`` (up to scale and
            shift, but stored as positive numbers).
        images, depths: the two folders, below ``root``. May be the same if ``depth_suffix`` tells the files apart.
        depth_suffix: what a depth's file name has between the image's stem and the extension.
        scale: depth = stored number * scale. Required in metres for ``png16``, ``png8`` and ``carla24``, and where the first
            depth file holds whole numbers.
        min_depth, max_depth: closed limits of valid depth, after the scale; None = none.
        invalid: stored number, or several, that mean "unknown". 0, negative numbers, NaN and infinity always do.
        sky: the stored number that means "infinitely far"; becomes infinity, valid. Not for ``disparity``.
        sky_beyond: depth farther than this is sky too, for renderers that store some large distance. Not for ``disparity``.
        zero: ``unknown``, or ``far``: 0 is a value, the farthest, as in disparities that were stored from 0 to the maximum. Not
            in metres.
        resize: ``refuse`` depth of another size than its image, or ``nearest``: each stored pixel goes to the image pixel at
            its centre once, and the rest is invalid, as LiDAR of phones and ScanNet's depth need it. Aspect ratios that differ
            by more than 10 % are another view, and refused.
        missing: ``refuse`` images without depth, or ``skip`` them with a warning that counts them.
        array: name of the array in an ``npz``, of the channel in an ``exr``.
        intrinsics: file with the cameras, below ``root`` (see :class:`dadkit.data.pairs.Cameras`). Without one, a photograph's
            EXIF data say its focal length, if anything does.
        extensions: file name extensions that count as images.
        min_size, max_pixels: as in :class:`dadkit.data.Images`.
        upright: apply the images' EXIF orientation. False if depth was made from the pixels as they are stored.

    Raises:
        DataError: the root is missing or empty, images have no depth, or an option contradicts another.
    """

    def __init__(
        self,
        root: str | Path,
        *,
        encoding: Encoding,
        space: Literal["disparity", "depth", "metric"],
        images: str = "images",
        depths: str = "depth",
        depth_suffix: str = "",
        scale: float | None = None,
        min_depth: float | None = None,
        max_depth: float | None = None,
        invalid: float | list[float] | None = None,
        sky: float | None = None,
        sky_beyond: float | None = None,
        zero: Literal["unknown", "far"] = "unknown",
        resize: Literal["refuse", "nearest"] = "refuse",
        missing: Literal["refuse", "skip"] = "refuse",
        array: str | None = None,
        intrinsics: str | None = None,
        extensions: list[str] | None = None,
        min_size: int = 1,
        max_pixels: int = MAX_PIXELS,
        upright: bool = True,
    ) -> None:
        self.space = Space(space)
        self._check_options(encoding, scale, sky if sky_beyond is None else sky_beyond, zero)
        self.encoding, self._array, self._resize = encoding, array, resize
        self._meaning: dict[str, Any] = {
            "scale": 1.0 if scale is None else scale,
            "min_depth": min_depth,
            "max_depth": max_depth,
            "invalid": _as_tuple(invalid),
            "sky": sky,
            "sky_beyond": sky_beyond,
            "zero": zero == "far",
        }
        self._decoding: dict[str, Any] = {"min_size": min_size, "max_pixels": max_pixels, "upright": upright}
        path = Path(root).expanduser()
        if path.is_dir():
            self._base = path
            names, pairs = _mirrored(
                path, images, depths, SUFFIXES[encoding], depth_suffix, normalise_extensions(extensions), missing
            )
        elif path.is_file():
            self._base = path.parent
            pairs = _listed(path, missing)
            names = [inside(image) for image, _ in pairs]
        else:
            raise DataError(f"no image/depth pairs: {root} does not exist (looked for {path.absolute()})")
        keep = keys_with_suffix(names)
        self._keys = PackedStrings(name if kept else stem(name) for name, kept in zip(names, keep, strict=True))
        self._images = PackedStrings(image for image, _ in pairs)
        self._depths = PackedStrings(depth for _, depth in pairs)
        self._cameras = None if intrinsics is None else Cameras(self._base / intrinsics, self._keys)
        self._check_first(scale)

    def _check_first(self, scale: float | None) -> None:
        """Look at the first depth file: units and spaces that cannot be right are refused or questioned before any work."""
        file = self._base / self._depths[0]
        stated = own_space(file) if self.encoding == "png16" else None
        if stated is not None:
            if stated != self.space:
                raise DataError(f"{file} is a result of dadkit in space '{stated}', but space: {self.space} is declared")
            if scale is not None:
                raise DataError(f"{file} is a result of dadkit and carries its own range; leave scale out")
            return
        if self.space is not Space.METRIC:
            self._check_signs(file)
            return
        if scale is None and self.encoding in ("png16", "png8", "carla24"):
            raise DataError(
                f"{self.encoding} depth in metres needs a scale, metres per stored unit: 0.001 for millimetres, 0.00390625 for "
                "KITTI, 1000 for CARLA"
            )
        try:
            stored = read_depth(file, self.encoding, array=self._array)
            depth, valid = usable(stored, **self._meaning)
        except SampleError:
            return  # skipped and named when it is read
        whole = stored[np.isfinite(stored)]
        if scale is None and whole.size and bool((whole % 1 == 0).all()) and float(whole.max()) > 1:
            raise DataError(
                f"{file} holds whole numbers up to {whole.max():.0f}, so their unit is unknown; give scale, metres per stored "
                "unit: 0.001 for millimetres, 1 if they are metres"
            )
        known = depth[valid & depth.isfinite()]
        self._check_largest(file, stored, depth, valid)
        median = float(known.median()) if known.numel() else 1.0
        if not 0.02 <= median <= 300:
            warnings.warn(f"{file}: the median depth is {median:.4g} m: is scale missing, or wrong?", stacklevel=4)
        elif known.numel() and float(known.max()) == 1.0 and float(known.min()) < 0.5:
            warnings.warn(
                f"{file}: the largest depth is exactly 1 m: if each map was normalised to 1, it holds no metres; such maps are "
                "space: depth, or disparity where larger is nearer",
                stacklevel=4,
            )

    def _check_largest(self, file: Path, stored: np.ndarray, depth: Tensor, valid: Tensor) -> None:
        """Say what may be sky or unknown: the largest number that the encoding has, and what nothing on earth is as far as."""
        full = stored == _LARGEST.get(self.encoding, math.inf)
        share = float((torch.from_numpy(full) & valid[0] & depth[0].isfinite()).double().mean())
        beyond = float((valid & depth.isfinite() & (depth > _FARTHEST)).double().mean())
        if share > _SUSPICIOUS:
            which = f"{share:.0%} of its pixels hold {stored[full][0]:g}, the largest number that {self.encoding} has"
        elif beyond > _SUSPICIOUS:
            which = f"{beyond:.0%} of its pixels are farther than {_FARTHEST / 1000:g} km"
        else:
            return
        warnings.warn(
            f"{file}: {which}: if that is sky or unknown, say it by sky, sky_beyond, invalid or max_depth", stacklevel=5
        )

    def _check_signs(self, file: Path) -> None:
        """Say what is dropped of numbers up to scale and shift, of which 0 and negative ones may well be values."""
        try:
            stored = read_depth(file, self.encoding, array=self._array)
        except SampleError:
            return  # skipped and named when it is read
        negative, zero = float((stored < 0).mean()), float((stored == 0).mean())
        if negative > 0.01:
            warnings.warn(
                f"{file}: {negative:.0%} of its numbers are negative and count as unknown; store them shifted to above 0",
                stacklevel=5,
            )
        elif 0.005 < zero < 0.5 and not self._meaning["zero"] and self.space is Space.DISPARITY:  # sparse labels have more
            warnings.warn(
                f"{file}: {zero:.1%} of its numbers are 0 and count as unknown; zero: far makes them the farthest", stacklevel=5
            )

    def _check_options(self, encoding: str, scale: float | None, sky: float | None, zero: str) -> None:
        if encoding not in SUFFIXES:
            raise DataError(f"unknown depth encoding {encoding!r}; known are {', '.join(SUFFIXES)}")
        if zero == "far" and self.space is Space.METRIC:
            raise DataError("zero: far is for maps of unknown scale; 0 metres is no depth")
        if scale is not None and not 0 < scale < float("inf"):
            raise DataError(f"scale must be a positive number, got {scale}")
        if sky is not None and self.space is Space.DISPARITY:
            raise DataError("sky is infinitely far, which has no number in a disparity of unknown shift; use invalid= instead")

    def __len__(self) -> int:
        return len(self._keys)

    def key(self, index: int) -> str:
        """Returns the key of a sample, without reading it."""
        return self._keys[index]

    def __getitem__(self, index: int) -> Sample:
        key = self._keys[index]
        image_file, depth_file = self._base / self._images[index], self._base / self._depths[index]
        try:
            image = decode(image_file, **self._decoding)
        except SampleError as error:
            raise SampleError(f"{image_file}: {error}") from error
        try:
            stored = read_depth(depth_file, self.encoding, array=self._array)
            depth, valid = usable(stored, **self._meaning)
        except SampleError as error:
            raise SampleError(f"{depth_file}: {error}") from error
        if self.encoding == "png16" and own_space(depth_file) not in (None, str(self.space)):
            raise SampleError(f"{depth_file} is a result of dadkit in space '{own_space(depth_file)}', not '{self.space}'")
        height, width = image.shape[-2:]
        if depth.shape[-2:] != (height, width) and self._resize == "nearest":
            if abs(math.log(depth.shape[2] / depth.shape[1] * height / width)) > _OTHER_VIEW:
                raise SampleError(
                    f"{image_file} is {width} x {height}, {depth_file} is {depth.shape[2]} x {depth.shape[1]}, which cannot be "
                    "the same view at another size: crop the image, or turn the depth"
                )
            depth, valid = _placed(depth, valid, (height, width))
        if depth.shape[-2:] != (height, width):
            turned = depth.shape[-2:] == (width, height) and self._decoding["upright"]
            hint = (
                "; if depth belongs to the image before its EXIF rotation, set upright: false"
                if turned
                else "; resize: nearest places each stored pixel once"
            )
            raise SampleError(
                f"sizes differ: {image_file} is {width} x {height}, {depth_file} is {depth.shape[2]} x {depth.shape[1]}{hint}"
            )
        if not valid.any():
            raise SampleError(f"{depth_file}: no pixel has a valid depth; {_summary(stored, self._meaning)}")
        camera = exif_camera(image_file, (height, width)) if self._cameras is None else self._cameras(key)
        return Sample(
            image=image,
            key=key,
            depth=depth,
            valid=valid,
            space=self.space,
            intrinsics=camera,
            camera_from="exif" if self._cameras is None else "data",
        )


def _summary(stored: np.ndarray, meaning: dict[str, Any]) -> str:
    """Returns the stored numbers in a few words, and what they are read with."""
    finite = stored[np.isfinite(stored)]
    numbers = f"its numbers are {finite.min():g} to {finite.max():g}" if finite.size else "it holds no finite number"
    given = ", ".join(f"{name} {value}" for name, value in meaning.items() if value not in (None, (), False))
    return f"{numbers}, read with {given}"


def _as_tuple(invalid: float | list[float] | None) -> tuple[float, ...]:
    if invalid is None:
        return ()
    return tuple(invalid) if isinstance(invalid, list | tuple) else (float(invalid),)


def _mirrored(
    root: Path, images: str, depths: str, suffixes: tuple[str, ...], depth_suffix: str, extensions: tuple[str, ...], policy: str
) -> tuple[list[str], list[tuple[str, str]]]:
    """Returns the images' paths below ``images``, and (image, depth) paths below ``root``."""
    for folder in (images, depths):
        if not (root / folder).is_dir():
            there = ", ".join(sorted(path.name for path in root.iterdir() if path.is_dir())) or "none"
            raise DataError(
                f"no image/depth pairs: the folder {(root / folder).absolute()} does not exist; the options images and depths "
                f"name folders below root, where these are: {there}"
            )
    names, _ = scan(root / images, extensions)
    found, _ = scan(root / depths, set(suffixes), results=True)
    by_stem = {stem(name): name for name in found}
    if (root / images).samefile(root / depths):
        if not depth_suffix:
            raise DataError(f"images and depths both lie in {root / images}: say by depth_suffix which files are depth")
        names = [n for n in names if not (stem(n).endswith(depth_suffix) and n.lower().endswith(suffixes))]
    if not names:
        raise DataError(f"no images in {(root / images).absolute()}: looked for {', '.join(extensions)}, in all subfolders")
    missing = [n for n in names if stem(n) + depth_suffix not in by_stem]
    if missing and policy == "skip" and len(missing) < len(names):
        warnings.warn(f"{root / images}: {len(missing)} of {len(names)} images have no depth and are left out", stacklevel=4)
        names = [n for n in names if stem(n) + depth_suffix in by_stem]
    elif missing:
        raise DataError(
            f"{len(missing)} of the {len(names)} images in {root / images} have no depth, first {missing[0]} "
            f"(looked for {(root / depths).absolute() / (stem(missing[0]) + depth_suffix + suffixes[0])}; "
            "missing: skip leaves them out; where names differ, root may be a list of pairs, IMAGE,DEPTH a line)"
        )
    return names, [(f"{images}/{n}", f"{depths}/{by_stem[stem(n) + depth_suffix]}") for n in names]


def _listed(path: Path, policy: str) -> list[tuple[str, str]]:
    entries = [(number, image, depth) for number, (image, depth) in read_list(path, 2)]
    paired = [entry for entry in entries if entry[2] != "None"]
    absent = [(number, name) for number, *names in paired for name in map(str, names) if not os.path.isfile(path.parent / name)]
    lines = {number for number, _ in absent}
    whole = [(image, depth) for number, image, depth in paired if number not in lines]
    if not whole or (absent and policy == "refuse"):
        number, name = absent[0] if absent else (0, "None")
        raise DataError(
            f"{len(lines)} of the {len(paired)} pairs that {path} names lack a file, first line {number}: {name!r} "
            f"(looked for {(path.parent / name).absolute()}; paths are relative to the list's folder; missing: skip leaves "
            "them out)"
        )
    if len(whole) < len(entries):
        warnings.warn(f"{path}: {len(entries) - len(whole)} lines without depth are left out", stacklevel=4)
    return whole


def _placed(depth: Tensor, valid: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Puts each valid pixel into the pixel of the other size that holds its centre; of several the nearest is kept."""
    row, column = valid[0].nonzero().unbind(1)
    down = ((row + 0.5) * (size[0] / depth.shape[1])).long().clamp(max=size[0] - 1)
    right = ((column + 0.5) * (size[1] / depth.shape[2])).long().clamp(max=size[1] - 1)
    flat = torch.full((size[0] * size[1],), torch.inf, dtype=depth.dtype)
    flat.scatter_reduce_(0, down * size[1] + right, depth[0][row, column], "amin")
    known = torch.zeros(size[0] * size[1], dtype=torch.bool)
    known[down * size[1] + right] = True
    return torch.where(known, flat, 0).view(1, *size), known.view(1, *size)


_FIELDS = ("fx", "fy", "cx", "cy")


class Cameras:
    """Pinhole cameras of the samples ``keys``, read from the file ``path``; ``keys`` = None takes those that the file names.

    ``.txt``: four numbers ``fx fy cx cy`` for all images (``#`` begins a comment line), or the 9 or 16 of a matrix, row by row.
    ``.json``: an object with these four keys for all images, or an object of such objects by sample key. Numbers are pixels of
    the upright image, with pixel centres at half integers: cx = W/2 is the middle. If your file counts from the centre of the
    first pixel, add 0.5 to cx and cy.

    Raises:
        DataError: the file cannot be read or does not hold what is described above for every key.
    """

    def __init__(self, path: Path, keys: Iterable[str] | None) -> None:
        self._path = path
        self._shared: Tensor | None = None
        self._by_key: dict[str, Tensor] = {}
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix.lower() == ".json" else _four_numbers(text)
        except OSError as error:
            raise DataError(f"cannot read the intrinsics {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise DataError(f"the intrinsics {path} hold no four numbers fx fy cx cy: {error}") from error
        if not isinstance(content, dict) or not content:
            raise DataError(f"the intrinsics {path} must be an object with fx, fy, cx, cy, or such objects by key")
        if set(_FIELDS) & set(content):
            self._shared = self._matrix(content)
        else:
            wanted = list(content if keys is None else keys)
            missing = [key for key in wanted if key not in content]
            if missing:
                raise DataError(
                    f"the intrinsics {path} hold nothing for {len(missing)} of the {len(wanted)} samples, first {missing[0]!r}"
                )
            self._by_key = {key: self._matrix(content[key]) for key in wanted}

    def __call__(self, key: str) -> Tensor:
        """(3, 3) float32, the camera of the sample ``key``."""
        return self._by_key[key] if self._shared is None else self._shared

    def get(self, key: str) -> Tensor | None:
        """(3, 3) float32, or None if the file does not name that sample."""
        return self._by_key.get(key) if self._shared is None else self._shared

    def _matrix(self, fields: Any) -> Tensor:
        try:
            fx, fy, cx, cy = (float(fields[name]) for name in _FIELDS)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the intrinsics {self._path} need the numbers fx, fy, cx, cy, got {fields!r}") from error
        if not (all(map(math.isfinite, (fx, fy, cx, cy))) and fx > 0 and fy > 0):
            raise DataError(f"the intrinsics {self._path} need finite numbers with fx, fy > 0, got {fields!r}")
        return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _four_numbers(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    numbers = [float(word) for word in " ".join(lines).replace(",", " ").split()]
    if len(numbers) in (9, 16):
        side = math.isqrt(len(numbers))
        numbers = [numbers[place] for place in (0, side + 1, 2, side + 2)]
    if len(numbers) != 4:
        raise ValueError(f"found {len(numbers)} numbers")
    return dict(zip(_FIELDS, numbers, strict=True))
