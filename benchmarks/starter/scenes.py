"""Rendered scenes on disk for the dataset `pairs`: `python scenes.py OUT` writes 4,400 scenes with exact depth."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from dadkit.data import ProceduralScenes

SCENES = (
    ("street", 900, (240, 320)),
    ("street", 500, (208, 640)),
    ("room", 900, (240, 320)),
    ("corridor", 350, (240, 320)),
    ("hall", 450, (240, 320)),
    ("land", 600, (240, 320)),
    ("objects", 700, (240, 320)),
)


def main() -> None:
    """Render all of them."""
    out = Path(sys.argv[1])
    for kind in ("images", "depth"):
        (out / kind).mkdir(parents=True, exist_ok=True)
    for style, count, size in SCENES:
        scenes = ProceduralScenes(count=count, size=size, styles=[style], seed=7)
        for index in range(count):
            sample = scenes[index]
            name = f"{style}{size[1]}_{index:04d}"
            assert sample.depth is not None
            Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(out / "images" / f"{name}.jpg", quality=93)
            np.save(out / "depth" / f"{name}.npy", sample.depth[0].numpy().astype(np.float16))


if __name__ == "__main__":
    main()
