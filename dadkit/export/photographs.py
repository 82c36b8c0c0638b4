"""The pictures that a written file is checked on."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.data.folders import EXTENSIONS, scan
from dadkit.data.images import decode
from dadkit.errors import DadkitError, SampleError

__all__ = ["cropped", "photographs"]


def photographs(paths: Sequence[str | Path] = (), *, most: int = 64) -> list[Tensor]:
    """Pictures (3, H, W) uint8, evenly chosen from files and folders.

    Args:
        paths: image files, and folders that are searched recursively; none: the photograph that matplotlib ships.
        most: how many at most.

    Raises:
        DadkitError: there is no picture, or one cannot be read.
    """
    files: list[Path] = []
    for path in map(Path, paths):
        files += [path / name for name in scan(path, EXTENSIONS)[0]] if path.is_dir() else [path]
    if not files:
        if paths:
            raise DadkitError(f"no images in {', '.join(map(str, paths))}; looked for {', '.join(EXTENSIONS)}")
        from matplotlib import cbook

        sample: Any = cbook.get_sample_data("grace_hopper.jpg")
        with sample as file:
            return [decode(file.read())]
    chosen = [files[i * len(files) // min(most, len(files))] for i in range(min(most, len(files)))]
    return [_read(file) for file in chosen]


def _read(file: Path) -> Tensor:
    try:
        return decode(file)
    except SampleError as error:
        raise DadkitError(f"the picture {file} cannot be read: {error}") from error


def cropped(picture: Tensor, size: tuple[int, int]) -> Tensor:
    """Returns the largest middle part of ``picture`` (3, H, W) with the wanted aspect ratio, at ``size``: (1, 3,
    *size) uint8.
    """
    height, width = picture.shape[-2:]
    scale = max(size[0] / height, size[1] / width)
    rows, columns = (min(side, round(want / scale)) for side, want in zip((height, width), size, strict=True))
    top, left = (height - rows) // 2, (width - columns) // 2
    part = picture[None, :, top : top + rows, left : left + columns].float()
    resized = F.interpolate(part, size, mode="bilinear", align_corners=False, antialias=True)
    return resized.round().clamp(0, 255).to(torch.uint8)
