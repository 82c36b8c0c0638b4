"""KITTI: Eigen's test split with annotated depth, and the depth completion benchmark's validation selection."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from dadkit.data.benchmarks.base import (
    NOTHING,
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
    sparse_png,
)
from dadkit.data.depth_files import usable
from dadkit.data.folders import scan, stem
from dadkit.errors import SampleError
from dadkit.interfaces import Hints

__all__ = ["KITTIEigen", "KITTIVal"]

_LISTS = ("eigen_test_files_with_gt.txt", "kitti_eigen_test.txt", "kitti/eigen_test_files_with_gt.txt")
_DEPTH_FOLDERS = ("", "train", "val", "data_depth_annotated/train", "data_depth_annotated/val", "gts")
_IMAGE_FOLDERS = ("", "raw", "raw_data", "kitti_raw")


class KITTIEigen(Benchmark):
    """KITTI, Eigen's test split: 652 of its 697 images have annotated depth; the others say ``None`` in the list.

    Images of the raw data (``2011_09_26/…/image_02/data``) and annotated depth maps (``…/proj_depth/groundtruth``, which KITTI
    ships in ``train`` and ``val``), named by the public list ``eigen_test_files_with_gt.txt`` (image, depth, focal length).

    Args:
        root: folder of images and depth.
        depth_root: folder of the depth maps, where that is another.
        split_file: the list, where it does not lie in ``root``.
    """

    title = "KITTI Eigen"
    home = "https://www.cvlibs.net/datasets/kitti/eval_depth_all.php (annotated depth, raw data); the list: BTS, Marigold"

    def __init__(self, root: str | Path, *, depth_root: str | Path | None = None, split_file: str | Path | None = None) -> None:
        folder = existing_root(root, KITTIEigen)
        depths = folder if depth_root is None else existing_root(depth_root, KITTIEigen)
        path = find_list(folder, split_file, _LISTS)
        if path is None:
            raise missing(KITTIEigen, folder, _LISTS)
        rows = [row for row in read_columns(path, 2) if row[1] != NOTHING]
        images = beneath(folder, [row[0] for row in rows], KITTIEigen, prefixes=_IMAGE_FOLDERS)
        found = [_first_existing(depths, row[1]) for row in rows]
        super().__init__(folder, entries_of(zip(images, found, strict=True)))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG of metres * 256, 0 = unknown."""
        return usable(read_grey(path), scale=1 / 256)


def _first_existing(root: Path, name: str) -> str:
    """One drive's depth lies in ``train``, another's in ``val``, so that each name is looked for by itself."""
    parts = Path(name).parts
    for drop in range(len(parts)):
        tail = Path(*parts[drop:])
        if "proj_depth" not in tail.parts and drop:
            break
        for folder in _DEPTH_FOLDERS:
            if (root / folder / tail).is_file():
                return str((root / folder / tail).absolute())
    raise missing(KITTIEigen, root, [str(Path(folder, name)) for folder in _DEPTH_FOLDERS])


class KITTIVal(Benchmark):
    """KITTI depth completion, ``val_selection_cropped``: 1,000 images of 1216 x 352 with annotated depth and cameras.

    The LiDAR's single sweeps in ``velodyne_raw/``, where they are there, are the samples' hints.

    Args:
        root: ``val_selection_cropped`` itself, or a folder above it.
    """

    title = "KITTI val_selection_cropped"
    home = "https://www.cvlibs.net/datasets/kitti/eval_depth.php?benchmark=depth_completion (data_depth_selection.zip)"

    def __init__(self, root: str | Path) -> None:
        folder = existing_root(root, KITTIVal)
        places = ("", "val_selection_cropped", "depth_selection/val_selection_cropped")
        for place in places:
            if (folder / place / "groundtruth_depth").is_dir():
                names = scan(folder / place / "image", {".png"})[0]
                super().__init__(
                    folder / place,
                    [
                        Entry(
                            stem(name),
                            f"image/{name}",
                            f"groundtruth_depth/{name.replace('_image_', '_groundtruth_depth_', 1)}",
                            f"intrinsics/{stem(name)}.txt",
                        )
                        for name in names
                    ],
                )
                if names:
                    return
        raise missing(KITTIVal, folder, [f"{place}{'/' if place else ''}image and groundtruth_depth" for place in places])

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG of metres * 256, 0 = unknown."""
        return usable(read_grey(path), scale=1 / 256)

    def hints(self, entry: Entry, size: tuple[int, int]) -> Hints | None:
        """16-bit PNG of metres * 256 in ``velodyne_raw/``."""
        path = self.root / "velodyne_raw" / Path(entry.image).name.replace("_image_", "_velodyne_raw_", 1)
        return sparse_png(path) if path.is_file() else None

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """Nine numbers, row by row, in ``intrinsics/``."""
        path = self.root / entry.extra
        if not path.is_file():
            return None
        try:
            k = np.array([float(word) for word in path.read_text().split()]).reshape(3, 3)
        except ValueError as error:
            raise SampleError(f"{path} does not hold nine numbers: {error}") from error
        return camera_matrix(k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5)
