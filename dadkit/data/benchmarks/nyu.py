"""NYU Depth V2, labelled part: extracted PNGs with a list, the original MATLAB file, or files for depth completion."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from dadkit.data.benchmarks.base import (
    Benchmark,
    Entry,
    beneath,
    camera_matrix,
    entries_of,
    existing_root,
    find_list,
    missing,
    read_columns,
    read_grey,
    read_h5,
)
from dadkit.data.depth_files import optional_package, usable
from dadkit.data.folders import scan
from dadkit.data.sample import Sample
from dadkit.errors import DataError, SampleError
from dadkit.interfaces import Hints

__all__ = ["NYUConti", "NYUv2"]

_LISTS = ("filename_list_test.txt", "labeled/filename_list_test.txt", "nyudepthv2_test_files_with_gt.txt")
_MAT, _SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"


class NYUv2(Benchmark):
    """NYU Depth V2: 654 test images of 640 x 480 with Kinect depth.

    Read from whichever lies in ``root``: the MATLAB file ``nyu_depth_v2_labeled.mat`` with ``splits.mat`` (needs
    ``dadkit[datasets]``), or PNGs with a list of (rgb, depth[, filled]) paths: Marigold's ``filename_list_test.txt`` or BTS's
    ``nyudepthv2_test_files_with_gt.txt``; without a list all ``rgb_*`` files with a depth beside them. With ``depth: filled``
    also the 654 files ``val/official/*.h5`` of sparse-to-dense, each with ``rgb`` and ``depth``.

    Args:
        root: the folder.
        depth: ``raw`` sensor depth, with holes, is what most tables use; ``filled`` was completed by colourisation and makes
            Depth Anything V2-S's AbsRel .062 instead of .051.
        split: of the MATLAB file: ``test`` (654), ``train`` (795) or ``all``.
        split_file: another list than the one in the folder.
    """

    title = "NYU Depth V2"
    home = "https://cs.nyu.edu/~silberman/datasets/nyu_depth_v2.html"

    def __init__(
        self,
        root: str | Path,
        *,
        depth: Literal["raw", "filled"] = "raw",
        split: Literal["test", "train", "all"] = "test",
        split_file: str | Path | None = None,
    ) -> None:
        folder = existing_root(root, NYUv2)
        self._filled = depth == "filled"
        self._mat: Path | None = None
        if split_file is None and (folder / _MAT).is_file():
            self._mat = folder / _MAT
            super().__init__(folder, [Entry(f"{index:04d}", _MAT, _MAT, str(index)) for index in _mat_indices(folder, split)])
        else:
            h5 = next((p for p in ("val/official", "official", "") if any((folder / p).glob("*.h5"))), None)
            if split_file is None and self._filled and h5 is not None and find_list(folder, None, _LISTS) is None:
                files = sorted(path.relative_to(folder).as_posix() for path in (folder / h5).glob("*.h5"))
                super().__init__(folder, [Entry(Path(name).stem, name, name) for name in files])
                return
            if split != "test":
                raise DataError(f"split: {split} is read from {_MAT}; with PNGs give the list by split_file=")
            super().__init__(folder, self._png_entries(folder, split_file))

    def _png_entries(self, folder: Path, split_file: str | Path | None) -> list[Entry]:
        path = find_list(folder, split_file, _LISTS)
        if path is None:
            return self._scanned(folder)
        rows = read_columns(path, 3 if self._filled else 2)
        column = 2 if self._filled else 1
        if self._filled and "filled" not in rows[0][2]:
            raise DataError(f"{path} names no filled depth (the third column of Marigold's list); use depth: raw")
        images = beneath(folder, [row[0] for row in rows], NYUv2, prefixes=("", "official_splits/test", "test"))
        depths = beneath(folder, [row[column] for row in rows], NYUv2, prefixes=("", "official_splits/test", "test"))
        return entries_of(zip(images, depths, strict=True))

    def _scanned(self, folder: Path) -> list[Entry]:
        found = [name for name in scan(folder, {".png", ".jpg"})[0] if Path(name).name.startswith("rgb_")]
        kinds = ("filled_",) if self._filled else ("depth_", "sync_depth_")
        pairs = []
        for name in found:
            number = Path(name).stem.removeprefix("rgb_")
            beside = [Path(name).with_name(f"{kind}{number}.png").as_posix() for kind in kinds]
            pairs += [(name, depth) for depth in beside if (folder / depth).is_file()][:1]
        if not pairs:
            raise missing(NYUv2, folder, [_MAT, *_LISTS, "rgb_*.png beside depth_*.png"])
        return entries_of(pairs)

    def __getitem__(self, index: int) -> Sample:
        if self._mat is None:
            return super().__getitem__(index)
        h5py: Any = optional_package("h5py", f"reading {_MAT}")
        place = int(self.entry(index).extra)
        try:
            with h5py.File(self._mat, "r") as file:
                # MATLAB stores columns first: (3, 640, 480) and (640, 480)
                image = np.ascontiguousarray(np.asarray(file["images"][place]).transpose(0, 2, 1))
                stored = np.asarray(file["depths" if self._filled else "rawDepths"][place]).T
        except (OSError, KeyError) as error:
            raise SampleError(f"{self._mat}: {error}") from error
        depth, valid = usable(stored)
        size = (image.shape[1], image.shape[2])
        camera = self.camera(self.entry(index), size)
        return Sample(torch.from_numpy(image), self.key(index), depth, valid, self.space, camera)

    def image(self, path: Path) -> Tensor:
        """(3, H, W) uint8."""
        return torch.from_numpy(read_h5(path, "rgb")) if path.suffix == ".h5" else super().image(path)

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG in millimetres, or metres of an HDF5 file; 0 = unknown."""
        return usable(read_h5(path, "depth")) if path.suffix == ".h5" else usable(read_grey(path), scale=1e-3)

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """Returns the Kinect's colour camera, as published with the toolbox (its pixels count from 1)."""
        return camera_matrix(518.8579, 519.4696, 325.5824 - 0.5, 253.7362 - 0.5) if size == (480, 640) else None


class NYUConti(Benchmark):
    """NYU Depth V2 for depth completion, as bundled by Conti et al.: 654 images of 304 x 228 and fixed points.

    ``nyu_img_gt.h5`` (``img``, ``gt``) and ``nyu_pred_with_<points>.h5`` (``hints``), which Marigold-DC and VPP4DC use. Needs
    ``dadkit[datasets]``.

    Args:
        root: folder of the two files.
        points: which file of points: 5, 50, 100, 200 or 500; or ``livox``, ``grid-shift``.
    """

    title = "NYU Depth V2 of sparsity-agnostic depth completion"
    home = "https://github.com/andreaconti/sparsity-agnostic-depth-completion (release v0.1.0)"

    def __init__(self, root: str | Path, *, points: str | int = 500) -> None:
        folder = existing_root(root, NYUConti)
        names = ("nyu_img_gt.h5", f"nyu_pred_with_{points}.h5")
        if not all((folder / name).is_file() for name in names):
            raise missing(NYUConti, folder, [" and ".join(names)])
        h5py: Any = optional_package("h5py", "reading HDF5 files")
        with h5py.File(folder / names[0], "r") as file, h5py.File(folder / names[1], "r") as other:
            count, given = len(file["gt"]), len(other["hints"])
        if count != given:
            raise DataError(f"{folder / names[1]} has points of {given} images, but {names[0]} has {count} images")
        super().__init__(folder, [Entry(f"{index:04d}", names[0], names[0], names[1]) for index in range(count)])

    def __getitem__(self, index: int) -> Sample:
        entry, place = self.entry(index), range(len(self))[index]
        image = np.ascontiguousarray(_slice(self.root / entry.image, "img", place).transpose(2, 0, 1))
        size = (image.shape[1], image.shape[2])
        depth, valid = self.depth(self.root / entry.depth, entry, size)
        camera, hints = self.camera(entry, size), self.hints(entry, size)
        return Sample(torch.from_numpy(image), entry.key, depth, valid, self.space, camera, hints=hints)

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Metres, 0 = unknown."""
        return usable(_slice(path, "gt", int(entry.key)).reshape(size))

    def hints(self, entry: Entry, size: tuple[int, int]) -> Hints | None:
        """Metres, 0 = no point."""
        depth, valid = usable(_slice(self.root / entry.extra, "hints", int(entry.key)).reshape(size))
        return Hints(depth[None], valid[None])

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """Returns the Kinect's colour camera at half the size, of the central 304 x 228."""
        return camera_matrix(518.8579 / 2, 519.4696 / 2, 325.5824 / 2 - 8, 253.7362 / 2 - 6) if size == (228, 304) else None


def _slice(path: Path, name: str, place: int) -> np.ndarray:
    h5py: Any = optional_package("h5py", "reading HDF5 files")
    try:
        with h5py.File(path, "r") as file:
            return np.asarray(file[name][place])
    except (OSError, KeyError) as error:
        raise SampleError(f"{path}: cannot be read as HDF5 with a dataset {name!r}: {error}") from error


def _mat_indices(folder: Path, split: str) -> list[int]:
    h5py: Any = optional_package("h5py", f"reading {_MAT}")
    if split == "all":
        with h5py.File(folder / _MAT, "r") as file:
            return list(range(len(file["images"])))
    io: Any = optional_package("scipy.io", f"reading {_SPLITS}")
    if not (folder / _SPLITS).is_file():
        raise missing(NYUv2, folder, [_SPLITS])
    numbers = io.loadmat(folder / _SPLITS)[f"{split}Ndxs"].reshape(-1)
    return [int(number) - 1 for number in numbers]  # MATLAB counts from 1
