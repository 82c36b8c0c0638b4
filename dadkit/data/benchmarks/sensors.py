"""DDAD and SUN RGB-D: sensors on cars and in rooms."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import numpy as np
from torch import Tensor

from dadkit.data.benchmarks.base import (
    Benchmark,
    Entry,
    camera_matrix,
    entries_of,
    existing_entries,
    existing_root,
    missing,
    read_grey,
    unrotated,
)
from dadkit.data.depth_files import optional_package, read_depth, usable
from dadkit.data.folders import scan, stem

__all__ = ["DDAD", "SUNRGBD"]


class DDAD(Benchmark):
    """DDAD, validation frames of the front camera with projected LiDAR, as extracted for ZoeDepth and Depth Anything.

    ``*_rgb.png`` with ``*_depth.npy`` beside it. The original release holds point clouds, which have to be projected first.

    Args:
        root: the folder.
    """

    title = "DDAD (extracted)"
    home = "https://github.com/TRI-ML/DDAD (to be extracted to *_rgb.png and *_depth.npy)"

    def __init__(self, root: str | Path) -> None:
        folder = existing_root(root, DDAD)
        names = [name for name in scan(folder, {".png"})[0] if name.endswith("_rgb.png")]
        pairs = [(name, name.removesuffix("_rgb.png") + "_depth.npy") for name in names]
        looked_for = ["*_rgb.png with *_depth.npy"]
        super().__init__(folder, existing_entries(entries_of(pairs), DDAD, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Metres, 0 = unknown."""
        return usable(read_depth(path, "npy"))


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
        path = self.root / entry.extra
        if not entry.extra or not path.is_file():
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
