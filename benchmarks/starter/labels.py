"""Stored pseudo-labels: photographs at a short side of 320 pixels and a teacher's map of each, for the dataset `pairs`.

    python labels.py OUT tcmono/small _ckpt_small.pt.tar 224,320 FOLDER...

The map is the sum of two answers, one of the image with its short side at 224 pixels, one of its mirror image at 320 pixels,
each brought to median 0 and mean absolute deviation 1: the small size sees the layout, the large one the edges. A run that is
interrupted goes on where it stopped.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

import dadkit

SHORT = 320


def main() -> None:
    """Label every photograph of the folders."""
    out, name, weights, sizes, *folders = sys.argv[1:]
    teacher = dadkit.load_teacher(name, weights=weights)
    small, large = map(int, sizes.split(","))
    for kind in ("images", "depth"):
        (Path(out) / kind).mkdir(parents=True, exist_ok=True)
    for folder in folders:
        for file in sorted(path for path in Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png")):
            label(teacher, file, Path(out), f"{Path(folder).name}_{file.stem}", ((small, False), (large, True)))


def label(teacher: dadkit.interfaces.Teacher, file: Path, out: Path, name: str, views: tuple[tuple[int, bool], ...]) -> None:
    """Store one photograph and its map, the sum over ``views``: (short side, mirrored)."""
    target = out / "images" / f"{name}.jpg"
    if target.exists():
        return
    image = Image.open(file).convert("RGB")
    scale = min(1.0, SHORT / min(image.size))
    image = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255
    total = sum(answer(teacher, pixels, short, mirrored) for short, mirrored in views)
    total = (total - total.min()) / (total.max() - total.min()).clamp_min(1e-6) + 0.05  # 0 would mean "unknown"
    np.save(out / "depth" / f"{name}.npy", total[0, 0].numpy().astype(np.float16))
    image.save(target, quality=92)


def answer(teacher: dadkit.interfaces.Teacher, pixels: Tensor, short: int, mirrored: bool) -> Tensor:
    """(1, 3, H, W) -> (1, 1, H, W) with median 0 and mean absolute deviation 1."""
    height, width = pixels.shape[-2:]
    scale = short / min(height, width)
    size = [max(32, round(side * scale / 32) * 32) for side in (height, width)]
    seen = F.interpolate(pixels, size, mode="bicubic", antialias=True).clamp(0, 1)
    depth = teacher(seen.flip(-1)).depth.flip(-1) if mirrored else teacher(seen).depth
    depth = F.interpolate(depth, (height, width), mode="bilinear")
    centred = depth - depth.median()
    return centred / centred.abs().mean().clamp_min(1e-6)


if __name__ == "__main__":
    main()
