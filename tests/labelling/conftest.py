"""Pictures, one of them broken, and a teacher that needs no network."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from dadkit.data.store import Store, open_store
from dadkit.interfaces import Prediction
from dadkit.labelling import Claims, InlinePool, Labeller, Outcome, Plan, Settings, finished_units, label_units, make_plan
from dadkit.spaces import Space


class Dim:
    """Brightness above its minimum as disparity, so that 0 occurs; sky where red is strongest.

    Args:
        bit: added to all but the smallest value, as another machine's rounding.
        pause: seconds an image.
        deadly: a brightness of the first pixel that kills the process.
    """

    takes_camera = needs_camera = False
    about: ClassVar[dict[str, str]] = {"name": "dim", "space": "disparity", "license": "CC0-1.0", "sha256": "0" * 64}

    def __init__(self, bit: float = 0.0, pause: float = 0.0, deadly: float | None = None) -> None:
        self.bit, self.pause, self.deadly = bit, pause, deadly

    def sees(self, height: int, width: int) -> None:
        return None

    def prepare(self, key: str, image: Tensor) -> Tensor:
        return image[:, ::2, ::2].float() / 255

    def ask_patches(self, patches: Tensor, cameras: Tensor | None = None) -> Prediction:
        return self.ask(patches.float() / 255)

    def ask(self, prepared: Tensor, cameras: Tensor | None = None) -> Prediction:
        time.sleep(self.pause * len(prepared))
        if self.deadly is not None and bool((prepared[:, 0, 0, 0] == self.deadly).any()):
            os._exit(9)
        depth = prepared.mean(1, keepdim=True)
        depth = depth - depth.amin((2, 3), keepdim=True)
        return Prediction(depth + self.bit * (depth > 0), Space.DISPARITY, sky=(prepared[:, :1] > 0.9))


SETTINGS = Settings({}, [{"name": "dim", "options": {}}], unit=5)


def planned(root: str | Path, images: str | Path, **more: object) -> tuple[Store, Plan]:
    """A store with a plan for a folder of pictures."""
    from dataclasses import replace

    store = open_store(root)
    settings = replace(SETTINGS, images={"root": str(images), "min_size": 1}, **more)  # type: ignore[arg-type]
    return store, make_plan(store, settings, [Dim.about] * len(settings.teachers))


def work(root: str | Path, teacher: Dim | None = None) -> Labeller:
    """A labeller with that teacher."""
    return Labeller(str(root), batch_size=2, threads=1, teachers=[teacher or Dim()])


def run(root: str | Path, teacher: Dim | None = None, **options: object) -> Outcome:
    """What `dadkit label --workers 0` does after the plan."""
    store = open_store(root)
    todo = [unit for unit in range(work(root).plan.units) if unit not in finished_units(store)]
    with Claims(store, ttl=60) as claims:
        pool = InlinePool(partial(work, root, teacher))
        return label_units(store, todo, pool, claims, patience=0.1, **options)  # type: ignore[arg-type]


def contents(root: str | Path) -> dict[str, bytes]:
    """key.member -> bytes of every label that a record names; fails if one occurs twice, or if bytes are not the record's."""
    import hashlib
    import io
    import tarfile

    from dadkit.data.label_set import data_name
    from dadkit.labelling import records

    store, found = open_store(root), {}
    for record in records(store):
        data = store.read(data_name(record["unit"], record["hash"]))
        assert hashlib.sha256(data).hexdigest() == record["tar_sha256"]
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            for member in tar:
                assert member.name not in found
                found[member.name] = tar.extractfile(member).read()  # type: ignore[union-attr]
    return found


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """24 pictures of three sizes and a file that is no picture."""
    folder = tmp_path / "photos"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(24):
        coarse = random.integers(0, 255, (9 + number % 3, 12, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize((48, 36 + 4 * (number % 3))).save(folder / f"{number:03}.png")
    (folder / "broken.jpg").write_text("<html>")
    return folder
