"""ETH3D, ScanNet, DIODE, iBims-1: photographs with laser or sensor depth."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.data.benchmarks.base import (
    Benchmark,
    Entry,
    beneath,
    bool_mask,
    camera_matrix,
    entries_of,
    existing_entries,
    existing_root,
    find_list,
    listed_entries,
    missing,
    read_columns,
    read_grey,
    read_raw_float,
)
from dadkit.data.depth_files import read_depth, usable
from dadkit.data.folders import scan, stem

__all__ = ["DIODE", "ETH3D", "IBims1", "ScanNet"]


class ETH3D(Benchmark):
    """ETH3D high-resolution multi-view, training scenes: 454 photographs of 24 megapixels with laser depth.

    ``<scene>/images/dslr_images/DSC_*.JPG`` and, unpacked beside them, ``<scene>/ground_truth_depth/dslr_images/DSC_*.JPG``,
    which are no images but float32 without a header; or Marigold's list and folders (``rgb/…``, ``depth/…``).

    Args:
        root: folder of the scenes.
        split_file: list of (image, depth); without one all pairs that are found.
    """

    title = "ETH3D"
    home = "https://www.eth3d.net/datasets (high-res multi-view, training: dslr images distorted, depth)"

    def __init__(self, root: str | Path, *, split_file: str | Path | None = None) -> None:
        folder = existing_root(root, ETH3D)
        path = find_list(folder, split_file, ("eth3d_filename_list.txt",))
        if path is not None:
            super().__init__(folder, listed_entries(path, folder, ETH3D))
            return
        names = [name for name in scan(folder, {".jpg"})[0] if "/images/dslr_images/" in f"/{name}"]
        pairs = [(name, name.replace("images/dslr_images", "ground_truth_depth/dslr_images", 1)) for name in names]
        looked_for = ["<scene>/images/dslr_images/*.JPG and <scene>/ground_truth_depth/dslr_images/*.JPG"]
        super().__init__(folder, existing_entries(entries_of(pairs), ETH3D, folder, looked_for))

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Headerless float32 in metres; infinity = unknown."""
        return usable(read_raw_float(path, size))


class ScanNet(Benchmark):
    """ScanNet: frames with structured-light depth; the tables use a public list of 800 frames of the validation scenes.

    ``<scene>/color/000000.jpg`` and ``<scene>/depth/000000.png``, named by ``scannet_val_sampled_list_800_1.txt``. The exported
    colour frames are 1296 x 968 and depth is 640 x 480; colour that was not made smaller yet is brought to depth's size.

    Args:
        root: folder of the scenes.
        split_file: the list, where it does not lie in ``root``; without any, all frames that are found.
    """

    title = "ScanNet"
    home = "http://www.scan-net.org (terms of use to be signed); the list comes with Marigold"

    def __init__(self, root: str | Path, *, split_file: str | Path | None = None) -> None:
        folder = existing_root(root, ScanNet)
        path = find_list(folder, split_file, ("scannet_val_sampled_list_800_1.txt",))
        if path is not None:
            super().__init__(folder, listed_entries(path, folder, ScanNet))
            return
        names = [name for name in scan(folder, {".jpg", ".png"})[0] if "/color/" in name]
        pairs = [(name, stem(name.replace("/color/", "/depth/", 1)) + ".png") for name in names]
        looked_for = ["<scene>/color/*.jpg and <scene>/depth/*.png"]
        super().__init__(folder, existing_entries(entries_of(pairs), ScanNet, folder, looked_for))

    def image(self, path: Path) -> Tensor:
        """Colour at depth's 640 x 480."""
        image = super().image(path)
        if image.shape[-2:] == (968, 1296):
            small = F.interpolate(image[None].float(), (480, 640), mode="bilinear", antialias=True)[0]
            image = small.round().clamp(0, 255).to(torch.uint8)
        return image

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG in millimetres, 0 = unknown."""
        return usable(read_grey(path), scale=1e-3)


class DIODE(Benchmark):
    """DIODE, validation: 325 indoor and 446 outdoor photographs of 1024 x 768 with laser depth and validity masks.

    ``<indoors|outdoor>/scene_*/scan_*/*.png`` with ``*_depth.npy`` (H, W, 1) and ``*_depth_mask.npy``.

    Args:
        root: the folder ``val``, or a folder above it.
        part: ``indoor``, ``outdoor`` or ``all``. Numbers on one part say nothing about another.
        split_file: list of (image, depth, mask) as Marigold's; only lines of ``part`` are taken.
    """

    title = "DIODE"
    home = "https://diode-dataset.org (val.tar.gz)"

    def __init__(
        self,
        root: str | Path,
        *,
        part: Literal["indoor", "outdoor", "all"] = "all",
        split_file: str | Path | None = None,
    ) -> None:
        folder = existing_root(root, DIODE)
        base = folder / "val" if (folder / "val").is_dir() else folder
        lists = ("diode_val_all_filename_list.txt", "diode/diode_val_all_filename_list.txt")
        path = find_list(folder, split_file, lists)
        if path is not None:
            images = beneath(base, [row[0] for row in read_columns(path, 1)], DIODE)
        else:
            images = [n for n in scan(base, {".png"})[0] if (base / f"{stem(n)}_depth.npy").is_file()]
        wanted = {"indoor": ("indoors",), "outdoor": ("outdoor",), "all": ("indoors", "outdoor")}[part]
        images = [name for name in images if any(word in Path(name).parts or f"_{word}_" in name for word in wanted)]
        if not images:
            raise missing(DIODE, folder, [f"{word}/scene_*/scan_*/*_depth.npy" for word in wanted])
        super().__init__(base, [Entry(stem(n), n, f"{stem(n)}_depth.npy", f"{stem(n)}_depth_mask.npy") for n in images])

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """Metres; valid where the mask is 1."""
        depth, valid = usable(read_depth(path, "npy"))
        mask = bool_mask(read_depth(self.root / entry.extra, "npy"))
        return depth, valid & mask

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """Returns the published intrinsics, the same for all images."""
        return camera_matrix(886.81, 927.06, 512.0, 384.0) if size == (768, 1024) else None


class IBims1(Benchmark):
    """iBims-1: 100 indoor photographs of 640 x 480 with laser depth up to 50 m, and masks.

    ``imagelist.txt``, ``rgb/``, ``depth/``, ``mask_invalid/``, ``mask_transp/``, ``calib/`` of ``ibims1_core_raw``.

    Args:
        root: that folder, or one above it.
    """

    title = "iBims-1"
    home = "https://www.asg.ed.tum.de/lmf/ibims1/ (core dataset, raw)"

    def __init__(self, root: str | Path) -> None:
        folder = existing_root(root, IBims1)
        base = folder / "ibims1_core_raw" if (folder / "ibims1_core_raw").is_dir() else folder
        if not (base / "imagelist.txt").is_file():
            raise missing(IBims1, folder, ["imagelist.txt", "ibims1_core_raw/imagelist.txt"])
        names = [row[0] for row in read_columns(base / "imagelist.txt", 1)]
        super().__init__(base, [Entry(name, f"rgb/{name}.png", f"depth/{name}.png", name) for name in names])

    def depth(self, path: Path, entry: Entry, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
        """16-bit PNG, 65535 = 50 m, 0 = unknown; pixels that a mask marks 0 (invalid, transparent) are unknown."""
        depth, valid = usable(read_grey(path), scale=50 / 65535)
        for folder in ("mask_invalid", "mask_transp"):
            mask = self.root / folder / f"{entry.extra}.png"
            if mask.is_file():
                valid = valid & bool_mask(read_grey(mask))
        return depth, valid

    def camera(self, entry: Entry, size: tuple[int, int]) -> Tensor | None:
        """``calib/NAME.txt``: fx, fy, cx, cy separated by commas."""
        path = self.root / "calib" / f"{entry.extra}.txt"
        if not path.is_file():
            return None
        numbers = [float(word) for word in path.read_text().replace(",", " ").split()]
        return camera_matrix(*numbers[:4]) if len(numbers) >= 4 else None
