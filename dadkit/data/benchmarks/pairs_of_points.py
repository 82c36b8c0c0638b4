"""DA-2K and DIW: photographs with annotated pairs of points, no depth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar, Literal

import numpy as np

from dadkit.data.benchmarks.base import MAX_PIXELS
from dadkit.data.folders import stem
from dadkit.data.images import decode
from dadkit.data.ordinal import OrdinalSample, swapped_at_random
from dadkit.errors import DataError, SampleError

__all__ = ["DA2K", "DIW"]


class _PointPairs:
    """Images with the pairs of each: (N, 2, 2) row and column of the nearer and of the farther point."""

    title: ClassVar[str]
    home: ClassVar[str]

    def __init__(self, root: Path, pairs: dict[str, np.ndarray]) -> None:
        self.root = root
        self._names = list(pairs)
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._names)

    def key(self, index: int) -> str:
        """Returns the key of a sample, without reading it."""
        return stem(self._names[index])

    def __getitem__(self, index: int) -> OrdinalSample:
        name = self._names[index]
        try:
            image = decode(self.root / name, max_pixels=MAX_PIXELS, upright=False)
        except SampleError as error:
            raise SampleError(f"{self.root / name}: {error}") from error
        pairs = self._pairs[name]
        limits = np.array(image.shape[1:]) - 1
        points, nearer = swapped_at_random(np.clip(pairs, 0, limits), self.key(index))
        return OrdinalSample(image=image, key=self.key(index), points=points, nearer=nearer)


class DA2K(_PointPairs):
    """DA-2K: about 1,000 photographs of eight kinds with 2,000 pairs of points.

    ``annotations.json`` (image -> list of ``point1``, ``point2`` as [row, column], ``closer_point``) and ``images/``.

    Args:
        root: the folder of ``annotations.json``.
        scenes: kinds to take, for instance ``[transparent_reflective]``; None takes all.
    """

    title = "DA-2K"
    home = "https://huggingface.co/datasets/depth-anything/DA-2K"

    def __init__(self, root: str | Path, *, scenes: list[str] | None = None) -> None:
        folder = Path(root).expanduser()
        path = folder / "annotations.json"
        if not path.is_file():
            raise DataError(f"{self.title}: {path.absolute()} does not exist. Get it from {self.home}")
        try:
            annotations = json.loads(path.read_text(encoding="utf-8"))
            pairs = {name: np.array([_nearer_first(a) for a in found]) for name, found in annotations.items() if found}
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise DataError(f"{path} is not DA-2K's annotations: {error!r}") from error
        if scenes is not None:
            pairs = {name: own for name, own in pairs.items() if any(scene in Path(name).parts for scene in scenes)}
        if not pairs:
            raise DataError(f"{path} holds no pairs" + (f" of the scenes {', '.join(scenes)}" if scenes else ""))
        super().__init__(folder, pairs)


def _nearer_first(annotation: dict[str, object]) -> list[object]:
    points = [annotation["point1"], annotation["point2"]]
    return points if annotation["closer_point"] == "point1" else points[::-1]


class DIW(_PointPairs):
    """Depth in the Wild, test: 74,441 photographs with one pair of points each.

    ``DIW_test.csv``, two lines an image: its path, then ``yA,xA,yB,xB,relation,width,height``, counted from 1. The annotators'
    files say nowhere what ``>`` compares; in the authors' code it is depth, so that A is farther.

    Args:
        root: the folder of ``DIW_test.csv`` (or of ``DIW_Annotations``) and of the images.
        greater: what ``>`` says of point A.
    """

    title = "Depth in the Wild (DIW)"
    home = "http://www-personal.umich.edu/~wfchen/depth-in-the-wild (DIW_test.tar.gz and DIW_Annotations.tar.gz)"

    def __init__(self, root: str | Path, *, greater: Literal["farther", "nearer"] = "farther") -> None:
        folder = Path(root).expanduser()
        places = [folder / "DIW_test.csv", folder / "DIW_Annotations" / "DIW_test.csv"]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise DataError(f"{self.title}: neither {places[0].absolute()} nor {places[1]} exists. Get it from {self.home}")
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
        pairs: dict[str, np.ndarray] = {}
        for number in range(0, len(lines) - 1, 2):
            fields = lines[number + 1].split(",")
            try:
                a, b = np.array([float(x) - 1 for x in fields[:4]]).reshape(2, 2)
                first_is_nearer = {">": greater == "nearer", "<": greater == "farther"}[fields[4].strip()]
            except (ValueError, KeyError, IndexError) as error:
                raise DataError(
                    f"{path}, line {number + 2}: expected yA,xA,yB,xB,>|<,w,h, got {lines[number + 1]!r}"
                ) from error
            pairs[lines[number].removeprefix("./")] = np.stack([a, b] if first_is_nearer else [b, a])[None]
        if not pairs:
            raise DataError(f"{path} holds no pairs")
        super().__init__(folder, pairs)
