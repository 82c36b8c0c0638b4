"""Stored pseudo-labels: photographs at a short side of 320 pixels and a map of each, for the dataset `pairs`.

    python labels.py OUT FOLDER... --teacher tcmono/small _ckpt_small.pt.tar 224,320

A teacher gives two answers, one of the image with its short side at 224 pixels, one of its mirror image at 320 pixels, each
brought to median 0 and mean absolute deviation 1: the small size sees the layout, the large one the edges. The map is the sum
of all teachers' answers. With `--details 512` a guided filter (He et al., 2010) brings it to the edges that the teachers see at
that size. A run that is interrupted goes on where it stopped.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import dadkit
from dadkit.interfaces import Teacher

SHORT = 320
Teachers = Sequence[tuple[Teacher, int, int]]
"""Each with the short side of its plain answer and of its mirrored one."""


def main() -> None:
    """Label every photograph of the folders."""
    parser = argparse.ArgumentParser()
    parser.add_argument("out", type=Path)
    parser.add_argument("folders", type=Path, nargs="+")
    parser.add_argument("--teacher", nargs=3, action="append", required=True, metavar=("NAME", "WEIGHTS", "SMALL,LARGE"))
    parser.add_argument("--details", type=int)
    given = parser.parse_args()
    teachers = [asked(*each) for each in given.teacher]
    for kind in ("images", "depth"):
        (given.out / kind).mkdir(parents=True, exist_ok=True)
    for folder in given.folders:
        for file in sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
            label(teachers, file, given.out, f"{folder.name}_{file.stem}", given.details)


def asked(name: str, weights: str, sizes: str) -> tuple[Teacher, int, int]:
    """A teacher and its two sizes, as `--teacher` gives them."""
    small, large = map(int, sizes.split(","))
    return dadkit.load_teacher(name, weights=weights), small, large


def label(teachers: Teachers, file: Path, out: Path, name: str, details: int | None) -> None:
    """Store one photograph and its map."""
    target = out / "images" / f"{name}.jpg"
    if target.exists():
        return
    image = Image.open(file).convert("RGB")
    scale = min(1.0, SHORT / min(image.size))
    small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image if details else small)).permute(2, 0, 1)[None].float() / 255
    size = (small.height, small.width)
    guide = added(answer(teacher, pixels, details, False) for teacher, *_ in teachers) if details else None
    between = size if guide is None else guide.shape[-2:]
    views = [
        (teacher, side, mirrored) for teacher, *sides in teachers for side, mirrored in zip(sides, (False, True), strict=True)
    ]
    total = added(
        F.interpolate(answer(teacher, pixels, side, mirrored), between, mode="bilinear") for teacher, side, mirrored in views
    )
    if guide is not None:
        total = F.interpolate(guided(centred(guide), centred(total)), size, mode="area")
    total = (total - total.min()) / (total.max() - total.min()).clamp_min(1e-6) + 0.05  # 0 would mean "unknown"
    np.save(out / "depth" / f"{name}.npy", total[0, 0].numpy().astype(np.float16))
    small.save(target, quality=92)


def answer(teacher: Teacher, pixels: Tensor, short: int, mirrored: bool) -> Tensor:
    """(1, 3, H, W) -> (1, 1, h, w) about `short` pixels high or wide, with median 0 and mean absolute deviation 1."""
    height, width = pixels.shape[-2:]
    scale = short / min(height, width)
    size = [max(32, round(side * scale / 32) * 32) for side in (height, width)]
    seen = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
    return centred(teacher(seen.flip(-1)).depth.flip(-1) if mirrored else teacher(seen).depth)


def centred(depth: Tensor) -> Tensor:
    """Median 0 and mean absolute deviation 1."""
    moved = depth - depth.median()
    return moved / moved.abs().mean().clamp_min(1e-6)


def added(maps: Iterable[Tensor]) -> Tensor:
    """The sum of maps of one size."""
    return torch.stack(list(maps)).sum(0)


def guided(guide: Tensor, depth: Tensor, radius: int = 16, epsilon: float = 1e-3) -> Tensor:
    """A map that is a linear function of the guide around every pixel, and so has its edges. (1, 1, H, W) both."""

    def mean(x: Tensor) -> Tensor:
        side = 2 * radius + 1
        padded = F.pad(x, (radius,) * 4, mode="replicate")
        return F.avg_pool2d(F.avg_pool2d(padded, (side, 1), 1), (1, side), 1)

    slope = (mean(guide * depth) - mean(guide) * mean(depth)) / (mean(guide * guide) - mean(guide) ** 2 + epsilon)
    return mean(slope) * guide + mean(mean(depth) - slope * mean(guide))


if __name__ == "__main__":
    main()
