"""NYU Depth V2, labelled part: extracted PNGs with a list, or the original MATLAB file."""

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
)
from dadkit.data.depth_files import optional_package, usable
from dadkit.data.folders import scan
from dadkit.data.sample import Sample, SampleError
from dadkit.errors import DataError

__all__ = ["NYUv2"]

_LISTS = ("filename_list_test.txt", "labeled/filename_list_test.txt", "nyudepthv2_test_files_with_gt.txt")
_MAT, _SPLITS = "nyu_depth_v2_labeled.mat", "splits.mat"


class NYUv2(Benchmark):
    """NYU Depth V2: 654 test images of 640 x 480 with Kinect depth.

    Read from whichever lies in ``root``: the MATLAB file ``nyu_depth_v2_labeled.mat`` with ``splits.mat`` (needs
    ``dadkit[datasets]``), or PNGs with a list of (rgb, depth[, filled]) paths: Marigold's ``filename_list_test.txt`` or BTS's
    ``nyudepthv2_test_files_with_gt.txt``; without a list all ``rgb_*`` files with a depth beside them.

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

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG in millimetres, 0 = unknown."""
        return usable(read_grey(path), scale=1e-3)

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """The Kinect's colour camera, as published with the toolbox (its pixels count from 1)."""
        return camera_matrix(518.8579, 519.4696, 325.5824 - 0.5, 253.7362 - 0.5) if size == (480, 640) else None


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
