"""DDAD, VOID and SUN RGB-D: sensors on cars, in hands and in rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from dadkit.data.benchmarks.base import (
    Benchmark,
    Entry,
    beneath,
    camera_matrix,
    entries_of,
    existing_entries,
    existing_root,
    find_list,
    missing,
    read_columns,
    read_grey,
    sparse_png,
    unrotated,
)
from dadkit.data.depth_files import optional_package, read_depth, usable
from dadkit.data.folders import scan, stem
from dadkit.interfaces import Hints

__all__ = ["DDAD", "SUNRGBD", "VOID"]


class DDAD(Benchmark):
    """DDAD, validation frames of the front camera with projected LiDAR.

    ``*_rgb.png`` with ``*_depth.npy`` beside it, as extracted for ZoeDepth and Depth Anything. Or VPP4DC's bundle for depth
    completion, ``pregenerated/val/{rgb,hints,gt,intrinsics}``: 3,950 frames of 1936 x 1216; a part of the LiDAR
    is the samples' hints. The original release holds point clouds, which have to be projected first.

    Args:
        root: the folder of the pairs, or of ``pregenerated``.
    """

    title = "DDAD (extracted)"
    home = "https://github.com/TRI-ML/DDAD (to be extracted to *_rgb.png and *_depth.npy)"

    def __init__(self, root: str | Path) -> None:
        folder = existing_root(root, DDAD)
        for place in (folder, folder / "val", folder / "pregenerated" / "val"):
            if (place / "gt").is_dir() and (place / "rgb").is_dir():
                names = scan(place / "rgb", {".png"})[0]
                entries = [Entry(stem(n), f"rgb/{n}", f"gt/{n}", f"intrinsics/{stem(n)}.txt") for n in names]
                super().__init__(place, existing_entries(entries, DDAD, place, ["rgb/*.png with gt/*.png"]))
                return
        names = [name for name in scan(folder, {".png"})[0] if name.endswith("_rgb.png")]
        pairs = [(name, name.removesuffix("_rgb.png") + "_depth.npy") for name in names]
        looked_for = ["*_rgb.png with *_depth.npy"]
        super().__init__(folder, existing_entries(entries_of(pairs), DDAD, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Metres, 0 = unknown; in the bundle 16-bit PNG of metres * 256."""
        return usable(read_depth(path, "npy")) if path.suffix == ".npy" else usable(read_grey(path), scale=1 / 256)

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """Nine numbers in ``intrinsics/`` of the bundle."""
        return _nine_numbers(self.root / entry.extra) if entry.extra else None

    def hints(self, entry: Entry, size: tuple[int, int]) -> Hints | None:
        """``hints/`` of the bundle."""
        path = self.root / "hints" / Path(entry.image).name
        return sparse_png(path) if entry.extra and path.is_file() else None


class VOID(Benchmark):
    """VOID: 800 test images of 640 x 480 of hand-held sequences, with points of odometry and depth of a RealSense.

    ``void_<density>`` with ``test_image.txt`` and ``test_ground_truth.txt``, whose lines are paths, and perhaps
    ``test_sparse_depth.txt`` and ``test_intrinsics.txt``. The number of points is an upper bound: most images have fewer.

    Args:
        root: ``void_release``, or the folder ``void_<density>``.
        density: 1500, 500 or 150 points.
    """

    title = "VOID"
    home = "https://github.com/alexklwong/void-dataset"

    def __init__(self, root: str | Path, *, density: Literal[1500, 500, 150] = 1500) -> None:
        folder = existing_root(root, VOID)
        named = f"void_{density}"
        base = next((p for p in (folder / named, folder / "void_release" / named) if p.is_dir()), folder)
        kinds = ("image", "ground_truth", "sparse_depth", "intrinsics")
        lists = {kind: find_list(base, None, (f"test_{kind}.txt",)) for kind in kinds}
        looked_for = [f"{named}/test_image.txt and test_ground_truth.txt"]
        if lists["image"] is None or lists["ground_truth"] is None:
            raise missing(VOID, folder, looked_for)
        found = {k: beneath(base, [row[0] for row in read_columns(p, 1)], VOID) for k, p in lists.items() if p is not None}
        extras = zip(*(found.get(kind, [""] * len(found["image"])) for kind in kinds[2:]), strict=True)
        super().__init__(
            base,
            [
                Entry(stem(image), image, depth, f"{sparse}\n{camera}")
                for image, depth, (sparse, camera) in zip(found["image"], found["ground_truth"], extras, strict=True)
            ],
        )

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG of metres * 256, 0 = unknown."""
        return usable(read_grey(path), scale=1 / 256)

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """``K.txt`` of the sequence: nine numbers."""
        name = entry.extra.partition("\n")[2]
        return _nine_numbers(self.root / name) if name else None

    def hints(self, entry: Entry, size: tuple[int, int]) -> Hints | None:
        """16-bit PNG of metres * 256."""
        name = entry.extra.partition("\n")[0]
        return sparse_png(self.root / name) if name else None


class SUNRGBD(Benchmark):
    """SUN RGB-D: 5,050 test images of four sensors.

    Original layout: folders with ``image/*.jpg``, ``depth_bfx/*.png`` (or ``depth/*.png``) and ``intrinsics.txt``, 16-bit
    millimetres with the lowest bits turned to the top; the split is read from ``SUNRGBDtoolbox/traintestSUNRGBD/allsplit.mat``
    (needs ``dadkit[datasets]``). Or ZoeDepth's: ``rgb/rgb/*.jpg`` and ``gt/gt/*.png``, numbers / 10000.

    Args:
        root: folder that holds ``SUNRGBD``, or ``rgb`` and ``gt``.
        split: ``test``, ``train`` or ``all``, of the original layout.
        depth: ``bfx`` (holes filled by the authors' refinement) or ``raw``.
        max_depth: farther truth is unknown.
    """

    title = "SUN RGB-D"
    home = "https://rgbd.cs.princeton.edu (SUNRGBD.zip and SUNRGBDtoolbox.zip)"

    def __init__(
        self,
        root: str | Path,
        *,
        split: Literal["test", "train", "all"] = "test",
        depth: Literal["bfx", "raw"] = "bfx",
        max_depth: float = 8.0,
    ) -> None:
        folder = existing_root(root, SUNRGBD)
        self._max_depth = max_depth
        self._prepared = (folder / "gt" / "gt").is_dir()
        if self._prepared:
            names = scan(folder / "rgb" / "rgb", {".jpg", ".png"})[0] if (folder / "rgb" / "rgb").is_dir() else []
            entries = entries_of((f"rgb/rgb/{name}", f"gt/gt/{stem(name)}.png") for name in names)
        else:
            entries = _sun_entries(folder, split, "depth_bfx" if depth == "bfx" else "depth")
        looked_for = ["SUNRGBD/<sensor>/…/image/*.jpg with depth_bfx/*.png", "rgb/rgb and gt/gt"]
        super().__init__(folder, existing_entries(entries, SUNRGBD, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """See the class; 0 = unknown."""
        stored = read_grey(path)
        if self._prepared:
            return usable(stored, scale=1e-4, max_depth=self._max_depth)
        return usable(unrotated(stored), scale=1e-3, max_depth=self._max_depth)

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """``intrinsics.txt``: nine numbers."""
        return _nine_numbers(self.root / entry.extra) if entry.extra else None


def _nine_numbers(path: Path) -> Tensor | None:
    """Returns a camera matrix of nine numbers row by row; None if there is no file."""
    if not path.is_file():
        return None
    k = np.array([float(word) for word in path.read_text().split()[:9]]).reshape(3, 3)
    return camera_matrix(k[0, 0], k[1, 1], k[0, 2], k[1, 2])


def _sun_entries(folder: Path, split: str, kind: str) -> list[Entry]:
    if split == "all":
        names = [str(Path(name).parent.parent) for name in scan(folder, {".jpg"})[0] if Path(name).parent.name == "image"]
    else:
        path = folder / "SUNRGBDtoolbox" / "traintestSUNRGBD" / "allsplit.mat"
        if not path.is_file():
            raise missing(SUNRGBD, folder, [str(path.relative_to(folder)), "split: all"])
        io: Any = optional_package("scipy.io", "reading allsplit.mat")
        cells = io.loadmat(path)[f"all{split}"].reshape(-1)
        # The paths are those of the authors' disk; what matters begins at SUNRGBD/.
        names = ["SUNRGBD/" + str(np.asarray(cell).reshape(-1)[0]).rstrip("/").partition("SUNRGBD/")[2] for cell in cells]
    entries = []
    for name in names:
        images = sorted((folder / name / "image").glob("*.jpg"))
        depths = sorted((folder / name / kind).glob("*.png"))
        if images and depths:
            image, depth = (path.relative_to(folder).as_posix() for path in (images[0], depths[0]))
            entries.append(Entry(name, image, depth, f"{name}/intrinsics.txt"))
    return entries
