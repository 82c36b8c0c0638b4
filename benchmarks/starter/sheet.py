"""Photographs beside the maps of several models: `python sheet.py FOLDER OUT.jpg MODEL[:key=value,…]...`."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

import dadkit
from dadkit.pictures import colorize, grid

WIDTH, HEIGHT = 180, 120


def main() -> None:
    """Two photographs a row, each followed by a map of every model."""
    folder, out, *names = sys.argv[1:]
    models = {}
    for name in names:
        component, _, given = name.partition(":")
        models[component] = dadkit.load_teacher(component, **dict(pair.split("=", 1) for pair in given.split(",") if pair))
    files = sorted(path for path in Path(folder).iterdir() if path.suffix in (".jpg", ".png"))
    strips = []
    for file in files:
        image = Image.open(file).convert("RGB")
        if image.height > image.width:  # upright photographs show their middle
            top = (image.height - image.width * 2 // 3) // 2
            image = image.crop((0, top, image.width, top + image.width * 2 // 3))
        image = image.resize((4 * WIDTH, 4 * HEIGHT), Image.Resampling.LANCZOS)
        maps = [colorize(model.predict(image).depth, space=model.spec.space) for model in models.values()]
        strips.append(
            [
                np.asarray(Image.fromarray(np.asarray(p)).resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS))
                for p in (image, *maps)
            ]
        )
    rows = [[*strips[start], *strips[start + 1]] for start in range(0, len(strips) - 1, 2)]
    titles = 2 * ["photograph", *models]
    Image.fromarray(grid(rows, titles=titles)).save(out, quality=80)


if __name__ == "__main__":
    main()
