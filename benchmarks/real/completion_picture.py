"""The picture of docs/completion.md: `python benchmarks/real/completion_picture.py docs/completion.jpg`."""

from __future__ import annotations

import sys

import torch
from PIL import Image
from torch.nn import functional as F

import dadkit
from dadkit import pictures
from dadkit.data import ProceduralScenes
from dadkit.data.patterns import generator_for, simulate
from dadkit.evaluation.completion import Nearest
from dadkit.loading import load_completer
from dadkit.spaces import Space

SCENES = ((["street"], 3, "lines", 400), (["room"], 5, "uniform", 100), (["room"], 9, "half", 100))

rows = []
model = dadkit.load_teacher("starter/small")
ways = [Nearest(), load_completer("align", local="none"), load_completer("align")]
for styles, index, pattern, count in SCENES:
    sample = ProceduralScenes(count=20, size=(240, 320), split="test", styles=styles)[index]
    known = sample.depth[0] < 80
    hints = simulate(
        sample.depth[0], known, sample.image, pattern=pattern, points=count, generator=generator_for(1, index), noise=0.01
    )
    relative = model.predict(sample.image)
    limits = pictures.percentile_limits(pictures.nearness(sample.depth, Space.METRIC), known[None])
    dots = F.max_pool2d(hints.valid.float(), 3, 1, 1)[0] > 0
    near = F.max_pool2d(torch.where(hints.valid, 1 / hints.depth.clamp(min=1e-3), 0.0), 3, 1, 1)
    points = pictures.colorize(1 / near.clamp(min=1e-3), space=Space.METRIC, limits=limits)
    photo = pictures.to_uint8(sample.image).copy()
    photo[dots[0].numpy()] = points[dots[0].numpy()]
    row = [photo]
    for way in ways:
        depth = way.complete(sample.image[None].float() / 255, hints, relative).depth
        row.append(pictures.colorize(depth, space=Space.METRIC, limits=limits))
    row += [
        pictures.error_map(depth, sample.depth, known[None]),
        pictures.colorize(sample.depth, space=Space.METRIC, valid=known[None], limits=limits),
    ]
    rows.append(row)
titles = ["picture and points", "nearest point", "global fit", "align", "align, error 0 to 30 %", "truth"]
Image.fromarray(pictures.grid(rows, titles=titles)).save(sys.argv[1], quality=85)
