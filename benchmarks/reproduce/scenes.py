"""The scenes of the reproduction, rendered once into folders, so that no run renders them again."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dadkit.data import ProceduralScenes
from dadkit.errors import DadkitError
from dadkit.files import write_text

__all__ = ["SKY", "SceneSet", "render"]

SKY = 1e6
"""What a depth file holds where the ray meets nothing; the tables read it with `sky: 1.0e6`."""

SceneSet = Mapping[str, Any]
"""Options of `ProceduralScenes`, and `depth`: whether the true depth is kept."""


def render(name: str, options: SceneSet, folder: Path, *, say: Callable[[str], None]) -> None:
    """Render a set into ``folder/name``, unless it lies there already, made from the same options.

    Raises:
        DadkitError: it lies there, made from other options.
    """
    path = folder / name
    written = path / "scenes.json"
    wanted = json.dumps(dict(options), sort_keys=True)
    if written.is_file():
        if written.read_text() != wanted:
            raise DadkitError(f"{path.absolute()} was rendered with other options; remove it, or give another --work")
        return
    say(f"rendering {options['count']} scenes into {path}")
    _render(path, options)
    write_text(written, wanted)


def _render(path: Path, options: SceneSet) -> None:
    keep_depth = bool(options["depth"])
    scenes = ProceduralScenes(**{key: value for key, value in options.items() if key != "depth"})
    (path / "images").mkdir(parents=True, exist_ok=True)
    if keep_depth:
        (path / "depth").mkdir(exist_ok=True)
    for index in range(len(scenes)):
        sample = scenes[index]
        Image.fromarray(sample.image.permute(1, 2, 0).numpy()).save(path / "images" / f"{index:06d}.png", compress_level=1)
        if keep_depth:
            assert sample.depth is not None
            depth = torch.where(sample.depth.isfinite(), sample.depth, SKY)[0].numpy()
            np.save(path / "depth" / f"{index:06d}.npy", depth.astype(np.float32))
