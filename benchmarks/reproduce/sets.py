"""The sets of images that runs name, written once into folders, so that no run renders, shrinks or decodes them again."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dadkit.data import Images, ProceduralScenes
from dadkit.data.sample import Dataset
from dadkit.errors import DadkitError
from dadkit.files import write_text

__all__ = ["GIVEN", "SKY", "given", "write_set"]

SKY = 1e6
"""What a depth file holds where the ray meets nothing; the tables read it with `sky: 1.0e6`."""

GIVEN = Path("given")
"""Links to what the command line named, in the work folder."""


def given(name: str) -> Path:
    """Where what ``--given NAME=PATH`` named is.

    Raises:
        DadkitError: it was not named.
    """
    path = GIVEN / name
    if not path.exists():
        raise DadkitError(f"this setting needs --given {name}=PATH; its setting.yaml says what that is")
    return path


def write_set(path: Path, options: Mapping[str, Any], *, say: Callable[[str], None]) -> None:
    """Write a set into ``path``, unless it is there already, made from the same options.

    Three kinds: ``{photographs: NAME, shorter: N}`` are the pictures of what was given as NAME, none with a shorter side of
    more than N pixels; ``{pairs: NAME, set: SET}`` is a set of ``benchmarks/real`` below what was given as NAME; all others are
    options of `ProceduralScenes`, and ``depth``: whether the true depth is kept.

    Raises:
        DadkitError: it is there, made from other options; or what it is made from was not given.
    """
    written = path / "set.json"
    wanted = json.dumps(dict(options), sort_keys=True)
    if written.is_file():
        if written.read_text() != wanted:
            raise DadkitError(f"{path.absolute()} was made from other options; remove it, or give another --work")
        return
    dataset, shorter, depth = _open(options)
    say(f"writing {len(dataset)} images into {path}")
    _write(dataset, path, shorter, depth)
    write_text(written, wanted)


def _open(options: Mapping[str, Any]) -> tuple[Dataset, int | None, bool]:
    """A set's samples, the longest that a shorter side may be, and whether true depth is kept."""
    if "photographs" in options:
        return Images(given(options["photographs"])), options["shorter"], False
    if "pairs" in options:
        sys.path.append(str(Path(__file__).resolve().parents[1] / "real"))
        return importlib.import_module("measure").read_set(given(options["pairs"]), options["set"]), None, True
    return ProceduralScenes(**{key: value for key, value in options.items() if key != "depth"}), None, bool(options["depth"])


def _write(dataset: Dataset, path: Path, shorter: int | None, keep_depth: bool) -> None:
    for folder in ("images", "depth")[: 1 + keep_depth]:
        (path / folder).mkdir(parents=True, exist_ok=True)
    kind, quality = (".png", {"compress_level": 1}) if shorter is None else (".jpg", {"quality": 95})
    for index in range(len(dataset)):
        sample = dataset[index]
        image = Image.fromarray(sample.image.permute(1, 2, 0).numpy())
        if shorter is not None and min(image.size) > shorter:
            factor = shorter / min(image.size)
            image = image.resize((round(image.width * factor), round(image.height * factor)), Image.Resampling.LANCZOS)
        image.save(path / "images" / f"{index:06d}{kind}", **quality)
        if keep_depth:
            assert sample.depth is not None
            depth = torch.where(sample.depth.isfinite(), sample.depth, SKY)
            if sample.valid is not None:
                depth = torch.where(sample.valid, depth, 0)
            np.save(path / "depth" / f"{index:06d}.npy", depth[0].numpy().astype(np.float32))
