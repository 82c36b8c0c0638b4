"""The six labelled sets of Depth Anything: BlendedMVS, DIML, HRWSI, IRS, MegaDepth, TartanAir.

Sets whose depth is known up to a factor only (structure from motion) or which store disparity are read as ``disparity``, where
the factor does not matter; the others are metric.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from dadkit.data.benchmarks.base import (
    Benchmark,
    Entry,
    bool_mask,
    camera_matrix,
    entries_of,
    existing_entries,
    existing_root,
    read_columns,
    read_grey,
    read_h5,
)
from dadkit.data.depth_files import read_depth, read_exr, usable
from dadkit.data.folders import scan, stem
from dadkit.errors import DataError, SampleError
from dadkit.spaces import Space

__all__ = ["DIML", "HRWSI", "IRS", "BlendedMVS", "MegaDepth", "TartanAir"]


def inverted(depth: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Depth up to a factor as disparity up to a factor."""
    return torch.where(valid, 1 / depth.where(valid, depth.new_ones(())), 0.0), valid


class BlendedMVS(Benchmark):
    """BlendedMVS: rendered views of reconstructed scenes, blended with the photographs; depth up to a factor.

    ``<scene>/blended_images/00000000.jpg``, ``<scene>/rendered_depth_maps/00000000.pfm``, ``<scene>/cams/00000000_cam.txt``.

    Args:
        root: folder of the scenes, with ``training_list.txt`` and ``validation_list.txt`` (BlendedMVG's go as well).
        split: ``train``, ``val``, or ``all`` scenes that are found.
    """

    title = "BlendedMVS"
    home = "https://github.com/YoYo000/BlendedMVS"
    space = Space.DISPARITY

    def __init__(self, root: str | Path, *, split: Literal["train", "val", "all"] = "train") -> None:
        folder = existing_root(root, BlendedMVS)
        scenes = _scenes(folder, split)
        names = [name for name in scan(folder, {".jpg"})[0] if Path(name).parent.name == "blended_images"]
        names = [name for name in names if not name.endswith("_masked.jpg") and (scenes is None or _in(name, scenes))]
        entries = [
            Entry(
                stem(name),
                name,
                stem(name.replace("blended_images", "rendered_depth_maps")) + ".pfm",
                stem(name.replace("blended_images", "cams")) + "_cam.txt",
            )
            for name in names
        ]
        looked_for = ["<scene>/blended_images/*.jpg and <scene>/rendered_depth_maps/*.pfm"]
        super().__init__(folder, existing_entries(entries, BlendedMVS, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """PFM, 0 = unknown; inverted."""
        return inverted(*usable(read_depth(path, "pfm")))

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """Returns the 3 x 3 matrix after the word ``intrinsic``."""
        path = self.root / entry.extra
        if not path.is_file():
            return None
        try:
            numbers = path.read_text().split("intrinsic", 1)[1].split()[:9]
            k = np.array([float(number) for number in numbers]).reshape(3, 3)
        except (IndexError, ValueError) as error:
            raise SampleError(f"{path} holds no camera matrix: {error}") from error
        return camera_matrix(k[0, 0], k[1, 1], k[0, 2] + 0.5, k[1, 2] + 0.5)


def _scenes(folder: Path, split: str) -> set[str] | None:
    if split == "all":
        return None
    wanted = {"train": "training", "val": "validation"}[split]
    paths = [folder / f"{set_}{wanted}_list.txt" for set_ in ("", "BlendedMVS_", "BlendedMVG_")]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        raise DataError(f"BlendedMVS: split: {split} is read from {paths[0]}, which does not exist; or take split: all")
    return {row[0] for row in read_columns(path, 1)}


def _in(name: str, scenes: set[str]) -> bool:
    return any(part in scenes for part in Path(name).parts)


class DIML(Benchmark):
    """DIML/CVL RGB-D: rooms with a Kinect v2, streets with a stereo camera.

    Indoor ``…/color/*_c.png`` with ``…/depth_filled/*_depth_filled.png``; outdoor ``…/outleft`` with ``…/depthmap``.

    Args:
        root: folder of the scenes, in any depth.
        part: ``indoor``, ``outdoor`` or ``all`` that is found.
    """

    title = "DIML/CVL RGB-D"
    home = "https://dimlrgbd.github.io"

    def __init__(self, root: str | Path, *, part: Literal["indoor", "outdoor", "all"] = "all") -> None:
        folder = existing_root(root, DIML)
        pairs = []
        for name in scan(folder, {".png", ".jpg"})[0]:
            path = Path(name)
            if path.parent.name == "color" and part != "outdoor":
                number = path.stem.removesuffix("_c")
                pairs.append((name, str(path.parent.parent / "depth_filled" / f"{number}_depth_filled.png")))
            elif path.parent.name == "outleft" and part != "indoor":
                pairs.append((name, str(path.parent.parent / "depthmap" / f"{path.stem}.png")))
        looked_for = ["…/color/*_c.png with …/depth_filled/*_depth_filled.png", "…/outleft with …/depthmap"]
        super().__init__(folder, existing_entries(entries_of(pairs), DIML, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG in millimetres, 0 = unknown."""
        return usable(read_grey(path), scale=1e-3)


class HRWSI(Benchmark):
    """HR-WSI: photographs from the web with disparity by optical flow of stereo pairs; 20,378 to train, 400 to validate.

    ``<split>/imgs/*.jpg``, ``<split>/gts/*.png``, ``<split>/valid_masks/*.png``.

    Args:
        root: folder of ``train`` and ``val``.
        split: one of them.
    """

    title = "HR-WSI"
    home = "https://github.com/KexianHust/Structure-Guided-Ranking-Loss"
    space = Space.DISPARITY

    def __init__(self, root: str | Path, *, split: Literal["train", "val"] = "train") -> None:
        folder = existing_root(root, HRWSI)
        base = folder / split if (folder / split).is_dir() else folder
        names = scan(base / "imgs", {".jpg", ".png"})[0] if (base / "imgs").is_dir() else []
        entries = [Entry(stem(n), f"imgs/{n}", f"gts/{stem(n)}.png", f"valid_masks/{stem(n)}.png") for n in names]
        looked_for = [f"{split}/imgs/*.jpg, {split}/gts/*.png, {split}/valid_masks/*.png"]
        super().__init__(base, existing_entries(entries, HRWSI, folder, looked_for, base=base))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Grey levels, larger = nearer; sky is 0 and valid. Valid where the mask is not 0."""
        values = torch.from_numpy(read_grey(path).astype(np.float32))[None]
        mask = self.root / entry.extra
        return values, bool_mask(read_grey(mask)) if mask.is_file() else torch.ones_like(values, dtype=torch.bool)


class IRS(Benchmark):
    """IRS: 103,316 rendered indoor stereo pairs of 960 x 540 with disparity (EXR: needs ``dadkit[exr]``).

    ``<place>/<scene>/l_*.png`` with ``d_*.exr`` beside it.

    Args:
        root: folder of the places (Home, Office, Restaurant, Store), in any depth.
    """

    title = "IRS"
    home = "https://github.com/HKBU-HPML/IRS"
    space = Space.DISPARITY

    def __init__(self, root: str | Path) -> None:
        folder = existing_root(root, IRS)
        pairs = []
        for name in scan(folder, {".png"})[0]:
            path = Path(name)
            if path.name.startswith("l_"):
                pairs.append((name, str(path.with_name(f"d_{path.stem.removeprefix('l_')}.exr"))))
        looked_for = ["l_*.png with d_*.exr"]
        super().__init__(folder, existing_entries(entries_of(pairs), IRS, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Returns pixels of disparity, as stored; the sign differs between releases and is dropped."""
        return usable(np.abs(read_exr(path)))


class MegaDepth(Benchmark):
    """MegaDepth v1: photographs of landmarks, depth from structure from motion up to a factor (needs ``dadkit[datasets]``).

    ``<number>/dense<k>/imgs/*`` with ``<number>/dense<k>/depths/*.h5``. Images whose file holds ordinal labels (negative
    numbers) and no depth are skipped when they are read.

    Args:
        root: ``MegaDepth_v1``, or a folder above it.
    """

    title = "MegaDepth"
    home = "https://www.cs.cornell.edu/projects/megadepth"
    space = Space.DISPARITY

    def __init__(self, root: str | Path) -> None:
        folder = existing_root(root, MegaDepth)
        names = [name for name in scan(folder, {".jpg", ".jpeg", ".png"})[0] if Path(name).parent.name == "imgs"]
        pairs = [(name, str(Path(name).parent.parent / "depths" / f"{Path(name).stem}.h5")) for name in names]
        looked_for = ["<number>/dense<k>/imgs/*.jpg with <number>/dense<k>/depths/*.h5"]
        super().__init__(folder, existing_entries(entries_of(pairs), MegaDepth, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Returns the dataset ``depth``, 0 = unknown, negative = an ordinal label; inverted."""
        return inverted(*usable(read_h5(path, "depth")))


class TartanAir(Benchmark):
    """TartanAir: rendered flights, 640 x 480.

    ``<environment>/…/<Easy|Hard>/P*/image_left/*_left.png`` with ``…/depth_left/*_left_depth.npy``.

    Args:
        root: folder of the environments, in any depth.
        environments: names to take; None takes all.
        max_depth: farther depth becomes sky (infinitely far, valid), which the renderer stores as some large number. Users
            report domes nearer than 1000 m in some environments, 350 m in ``amusement``: leave those out by ``environments``,
            or read them alone with a smaller limit.

    Frames that are entirely black are skipped and counted.
    """

    title = "TartanAir"
    home = "https://theairlab.org/tartanair-dataset"

    def __init__(self, root: str | Path, *, environments: list[str] | None = None, max_depth: float = 1000.0) -> None:
        folder = existing_root(root, TartanAir)
        self._max_depth = max_depth
        names = [name for name in scan(folder, {".png"})[0] if Path(name).parent.name == "image_left"]
        names = [name for name in names if environments is None or _in(name, set(environments))]
        pairs = [(name, stem(name.replace("image_left", "depth_left")) + "_depth.npy") for name in names]
        looked_for = ["<environment>/Easy/P*/image_left/*.png with depth_left/*_depth.npy"]
        super().__init__(folder, existing_entries(entries_of(pairs), TartanAir, folder, looked_for))

    def image(self, path: Path) -> Tensor:
        """Returns (3, H, W) uint8. Raises SampleError for a black frame, which some flights hold."""
        image = super().image(path)
        if not image.any():
            raise SampleError("the frame is black")
        return image

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Metres along the axis."""
        stored = read_depth(path, "npy")
        return usable(np.where(stored > self._max_depth, np.inf, stored), sky=np.inf)

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """90 degrees wide."""
        return camera_matrix(320.0, 320.0, 320.0, 240.0) if size == (480, 640) else None
