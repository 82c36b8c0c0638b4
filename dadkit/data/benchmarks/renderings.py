"""Sintel, Hypersim, Virtual KITTI 2: rendered scenes."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from dadkit.data.benchmarks.base import (
    Benchmark,
    Entry,
    camera_matrix,
    entries_of,
    existing_entries,
    existing_root,
    find_list,
    listed_entries,
    planar_from_distance,
    read_dpt,
    read_grey,
    read_h5,
)
from dadkit.data.depth_files import usable
from dadkit.data.folders import scan, stem
from dadkit.errors import DataError, SampleError

__all__ = ["VKITTI2", "Hypersim", "Sintel"]


class Sintel(Benchmark):
    """MPI Sintel, training: 1064 rendered frames of 1024 x 436 with depth and cameras.

    ``training/final/<scene>/*.png``, ``training/depth/<scene>/*.dpt``, ``training/camdata_left/<scene>/*.cam``.

    Args:
        root: the folder ``training``, or the one above it.
        render: ``final`` with blur and atmosphere, or ``clean``.
    """

    title = "MPI Sintel"
    home = "http://sintel.is.tue.mpg.de/depth (MPI-Sintel-depth-training and the images)"

    def __init__(self, root: str | Path, *, render: Literal["final", "clean"] = "final") -> None:
        folder = existing_root(root, Sintel)
        base = folder / "training" if (folder / "training").is_dir() else folder
        names = scan(base / render, {".png"})[0] if (base / render).is_dir() else []
        entries = [Entry(stem(n), f"{render}/{n}", f"depth/{stem(n)}.dpt", f"camdata_left/{stem(n)}.cam") for n in names]
        looked_for = [f"training/{render}/<scene>/*.png and training/depth/<scene>/*.dpt"]
        super().__init__(base, existing_entries(entries, Sintel, folder, looked_for, base=base))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """``.dpt``, in the film's units, which its makers call metres."""
        return usable(read_dpt(path))

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """``.cam``: the tag 202021.25, then nine doubles of the camera matrix, by rows."""
        path = self.root / entry.extra
        if not path.is_file():
            return None
        data = path.read_bytes()
        if len(data) < 76 or np.frombuffer(data[:4], "<f4")[0] != np.float32(202021.25):
            raise SampleError(f"{path} is no Sintel camera file")
        k = np.frombuffer(data[4:76], "<f8").reshape(3, 3)
        return camera_matrix(k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5)


class Hypersim(Benchmark):
    """Hypersim: rendered rooms of 1024 x 768.

    Original files (needs ``dadkit[datasets]``): ``<scene>/images/scene_<camera>_final_preview/frame.*.tonemap.jpg`` and
    ``…_geometry_hdf5/frame.*.depth_meters.hdf5``, which holds *distances*; they become depth along the axis with the focal
    length 886.81. With ``metadata_images_split_scene_v1.csv`` in the folder the official split is taken. Or PNGs of planar
    depth in millimetres with a list, as Marigold prepares them.

    Args:
        root: folder of the scenes.
        split: ``train``, ``val``, ``test`` of the official file, or ``all``.
        split_file: Marigold's list of (rgb, depth) PNGs.
    """

    title = "Hypersim"
    home = "https://github.com/apple/ml-hypersim"

    def __init__(
        self,
        root: str | Path,
        *,
        split: Literal["train", "val", "test", "all"] = "test",
        split_file: str | Path | None = None,
    ) -> None:
        folder = existing_root(root, Hypersim)
        if split_file is not None:
            path = find_list(folder, split_file, ())
            assert path is not None
            super().__init__(folder, listed_entries(path, folder, Hypersim, prefixes=("", split)))
            return
        names = _official_split(folder, split) or [
            name for name in scan(folder, {".jpg"})[0] if name.endswith(".tonemap.jpg") and "_final_preview/" in name
        ]
        entries = [Entry(stem(stem(name)), name, _distance_file(name)) for name in names if (folder / name).is_file()]
        looked_for = ["<scene>/images/scene_cam_*_geometry_hdf5/frame.*.depth_meters.hdf5", "split_file="]
        super().__init__(folder, existing_entries(entries, Hypersim, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Distance in metres (HDF5, NaN = unknown) made planar, or planar millimetres (PNG, 0 = unknown)."""
        if path.suffix == ".png":
            return usable(read_grey(path), scale=1e-3)
        distance = read_h5(path, "dataset").astype(np.float64)
        return usable(planar_from_distance(distance, 886.81 * distance.shape[1] / 1024))

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """Returns the one with which distances become planar; some scenes' cameras are tilted, which it does not know."""
        focal = 886.81 * size[1] / 1024
        return camera_matrix(focal, focal, size[1] / 2, size[0] / 2)


def _distance_file(image: str) -> str:
    return image.replace("_final_preview/", "_geometry_hdf5/", 1).replace(".tonemap.jpg", ".depth_meters.hdf5")


def _official_split(folder: Path, split: str) -> list[str]:
    path = folder / "metadata_images_split_scene_v1.csv"
    if split == "all" or not path.is_file():
        if split != "all":
            raise DataError(
                f"Hypersim: split: {split} is read from {path}, which does not exist. It lies in "
                f"{Hypersim.home}, evermotion_dataset/analysis; or take split: all, or give split_file="
            )
        return []
    with path.open(newline="", encoding="utf-8") as handle:
        rows = [r for r in csv.DictReader(handle) if r["split_partition_name"] == split]
    rows = [row for row in rows if row["included_in_public_release"].strip().lower() == "true"]
    return [
        f"{r['scene_name']}/images/scene_{r['camera_name']}_final_preview/frame.{int(r['frame_id']):04d}.tonemap.jpg"
        for r in rows
    ]


class VKITTI2(Benchmark):
    """Virtual KITTI 2: rendered streets of 1242 x 375.

    ``SceneXX/<variation>/frames/rgb/Camera_0/rgb_*.jpg`` and ``…/frames/depth/Camera_0/depth_*.png``, in one tree or below
    ``rgb/`` and ``depth/``.

    Args:
        root: folder of the scenes.
        scenes: for instance ``[Scene20]``; None takes all.
        variations: for instance ``[clone]``; None takes all.
        cameras: of the stereo pair.
        split_file: list of (rgb, depth), as Marigold's.
        sky: count sky (655.35 m) as valid and infinitely far; otherwise it is unknown.
    """

    title = "Virtual KITTI 2"
    home = "https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2 (rgb and depth)"

    def __init__(
        self,
        root: str | Path,
        *,
        scenes: list[str] | None = None,
        variations: list[str] | None = None,
        cameras: list[str] | None = None,
        split_file: str | Path | None = None,
        sky: bool = True,
    ) -> None:
        folder = existing_root(root, VKITTI2)
        self._sky = 65535.0 if sky else None
        path = find_list(folder, split_file, ())
        if path is not None:
            super().__init__(folder, listed_entries(path, folder, VKITTI2))
            return
        pairs = _vkitti_pairs(folder, scenes, variations, cameras)
        looked_for = ["SceneXX/<variation>/frames/rgb/Camera_0/rgb_*.jpg with frames/depth beside frames/rgb"]
        super().__init__(folder, existing_entries(entries_of(pairs), VKITTI2, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG in centimetres; 65535 is sky."""
        return usable(read_grey(path), scale=0.01, sky=self._sky, invalid=() if self._sky else (65535,))

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """Returns the published camera, the same for all frames."""
        return camera_matrix(725.0087, 725.0087, 621.0, 187.5) if size == (375, 1242) else None


def _vkitti_pairs(
    folder: Path, scenes: list[str] | None, variations: list[str] | None, cameras: list[str] | None
) -> list[tuple[str, str]]:
    pairs = []
    for name in scan(folder, {".jpg"})[0]:
        parts = Path(name).parts
        if "frames" not in parts[2:] or "/frames/rgb/" not in name:
            continue
        at = parts.index("frames")
        wanted = ((scenes, parts[at - 2]), (variations, parts[at - 1]), (cameras, parts[at + 2]))
        if any(chosen is not None and have not in chosen for chosen, have in wanted):
            continue
        depth = stem(name.replace("/frames/rgb/", "/frames/depth/").replace("/rgb_", "/depth_")) + ".png"
        for candidate in (depth, depth.replace("rgb/", "depth/", 1)):
            if (folder / candidate).is_file():
                pairs.append((name, candidate))
                break
    return pairs
