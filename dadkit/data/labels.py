"""Images with the maps that a teacher has stored: what `dadkit label` wrote, read as pairs are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from dadkit.data.images import MAX_PIXELS, decode
from dadkit.data.label_codec import decode_map, decode_mask
from dadkit.data.label_set import Index, Unit, UnitTable, cached_reader, cells, data_name, newest_manifest, read_plan
from dadkit.data.sample import Sample
from dadkit.data.sampling import Windows, derive, nth_in_order
from dadkit.data.shard_index import read_range
from dadkit.data.store import open_store, read_sample
from dadkit.errors import DataError, SampleError
from dadkit.interfaces import Prediction
from dadkit.spaces import Space

__all__ = ["Labels"]


class Labels:
    """The labels of `dadkit label`, with their images.

    Opening reads one manifest and one table, whatever the number of labels. A sample is one read of the image and one of the
    map. The map keeps the size at which it is stored, and views are cut from it: a teacher that saw the whole picture is not
    the same as one that sees a crop. Sky that a teacher tells is infinitely far in metres, 0 in disparity, invalid in affine
    depth.

    Args:
        root: folder, or address of a bucket, that `dadkit label` wrote.
        teacher: which of several teachers, from 0.
        images: the folder, or address, that the images are in now, if they moved since they were labelled.
        manifest: number of the manifest; None is the newest. A run that goes on needs the one that it began with.
        views: ``whole`` pictures, or ``patches`` at native detail, if they are stored: each epoch another one of every image.
            Regions are cut around it, and have a label there alone: what ``local-global`` compares, with one patch an image.
        window: samples are drawn from so many units (of about 1,000) at a time, for disks and buckets; None draws from all.
        min_score, max_score: name -> closed limit of a score (see ``dadkit.labelling.scores``). Labels without the score, or
            for which it is not a number, are left out. All side indices are then read at the start.

    Raises:
        DataError: no labels are there, or none is left.
    """

    answered = True
    """See :class:`dadkit.data.Dataset`."""

    def __init__(
        self,
        root: str | Path,
        *,
        teacher: int = 0,
        images: str | Path | None = None,
        views: Literal["whole", "patches"] = "whole",
        manifest: int | None = None,
        window: int | None = None,
        min_score: Mapping[str, float] | None = None,
        max_score: Mapping[str, float] | None = None,
    ) -> None:
        self._store = open_store(root)
        plan = read_plan(self._store)
        if plan is None:
            raise DataError(f"{root} holds no labels: there is no plan.json; `dadkit label` writes one")
        if not 0 <= teacher < len(plan["teachers"]):
            raise DataError(f"{root} holds labels of {len(plan['teachers'])} teachers, so there is no teacher {teacher}")
        if window is not None and window < 1:
            raise DataError(f"window is a number of units, at least 1, got {window}")
        self._teacher, self._teachers = teacher, len(plan["teachers"])
        stored = plan["settings"]
        if views == "patches" and stored.get("views") != "patches":
            raise DataError(f"{root} holds whole pictures only; `dadkit label --views patches` stores patches")
        self._grid = (stored["patch_size"], stored["overlap"]) if views == "patches" else None
        self.space = Space(plan["teachers"][teacher]["space"])
        self.licenses = tuple(
            filter(None, dict.fromkeys((plan["teachers"][teacher]["license"], plan["settings"]["source_license"])))
        )
        base = plan["base"] if images is None else str(images)
        self._images = open_store(base)
        options = plan["settings"]["images"]
        self._decoding = {
            name: options.get(name, default)
            for name, default in (("min_size", 1), ("max_pixels", MAX_PIXELS), ("min_side", None), ("bits", 16))
        }
        self._manifest = newest_manifest(self._store, manifest)
        self._units = UnitTable(self._store, plan["table"])
        self._read = cached_reader(self._store, self._units, self._manifest)
        self._kept: list[np.ndarray] | None = None
        counts = self._manifest.labels.astype(np.int64)
        limits = [(name, low, np.inf) for name, low in (min_score or {}).items()]
        limits += [(name, -np.inf, high) for name, high in (max_score or {}).items()]
        if limits:
            self._kept = [self._passing(place, limits) for place in range(len(counts))]
            counts = np.array([len(kept) for kept in self._kept], dtype=np.int64)
        self._filled = np.flatnonzero(counts)
        self._ends = np.cumsum(counts[self._filled])
        if not len(self._ends):
            raise DataError(f"{root} holds no label{' that passes the limits of its scores' if limits else ''}")
        self._windows = None if window is None else Windows(self._ends, window)

    def __getstate__(self) -> dict[str, object]:
        return {name: value for name, value in self.__dict__.items() if name != "_read"}

    def __setstate__(self, state: dict[str, object]) -> None:
        self.__dict__.update(state)
        self._read = cached_reader(self._store, self._units, self._manifest)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def order(self, number: int, seed: int, skip: int) -> int:
        """Returns which sample is drawn ``number``-th; see :mod:`dadkit.data.sampling`."""
        if self._windows is None:
            index = nth_in_order(number, len(self), seed, skip=skip)
        else:
            index = self._windows(number, seed, skip=skip)
        # Of patches an index beyond the last image is that image again, in a later epoch.
        return index if self._grid is None else index + len(self) * (number // len(self))

    def check_contexts(self, patches: int) -> None:
        """Refuse a context sampler that gives ``patches`` patches an image, if only whole pictures are stored.

        Raises:
            DataError: they are.
        """
        if patches and self._grid is None:
            raise DataError(
                f"the contexts have patches at native detail, as local-global's, but of {self._store.root} whole pictures are "
                "read. Store patches (`dadkit label --views patches`) and give the dataset views: patches, or choose the "
                "contexts shared or whole"
            )

    def key(self, index: int) -> str:
        """Returns the key of a sample, without reading it."""
        _, unit, table, member = self._find(index)
        return unit.keys[int(table.rows[member])]

    def scores(self, index: int) -> dict[str, float | int]:
        """Returns the scores of a sample."""
        _, _, table, member = self._find(index)
        return {name: values[member].item() for name, values in table.scores.items()}

    def __getitem__(self, index: int) -> Sample:
        place, unit, table, member = self._find(index)
        row = int(table.rows[member])
        key = unit.keys[row]
        try:
            if unit.shard:
                data = read_range(f"{self._images.root}/{unit.shard}", unit.offsets[row], unit.sizes[row])
            else:
                data = read_sample(self._images, unit.names[row])
            image = decode(data, **self._decoding)
        except SampleError as error:
            raise SampleError(f"{self._images.root}/{unit.shard or unit.names[row]}: {key}: {error}") from error
        height, width = image.shape[-2:]
        told = int(table.scores["height"][member]), int(table.scores["width"][member])
        if told != (height, width):
            raise SampleError(f"{key}: the image is {width} x {height} now and was {told[1]} x {told[0]} when it was labelled")
        part, which = None, self._teacher
        if self._grid is not None:
            boxes = cells(height, width, *self._grid)
            number = (index // len(self) + derive(0, key)) % len(boxes)
            part, which = boxes[number], (2 + number) * self._teachers + self._teacher
        values, space = decode_map(self._member(place, table, member, which, key))
        known = np.isfinite(values)
        answer = Prediction(
            torch.from_numpy(np.where(known, values, np.float32(0)))[None, None], space, torch.from_numpy(known)[None, None]
        )
        sky = self._teachers + self._teacher
        if table.sizes[member, sky] and part is None:
            mask = decode_mask(self._member(place, table, member, sky, key))
            settled = Prediction(answer.depth, space, answer.valid, sky=torch.from_numpy(mask)[None, None])
            answer = settled.to_space(space)
        assert answer.valid is not None
        if not answer.valid.any():
            raise SampleError(f"{key}: the label has no valid pixel")
        return Sample(
            image=image,
            key=key,
            depth=answer.depth[0],
            valid=answer.valid[0],
            space=space,
            intrinsics=None if part else self._camera(table, member, (height, width), answer.depth.shape[-2:]),
            scaled=True,
            part=part,
        )

    def _camera(self, table: Index, member: int, size: tuple[int, int], own: torch.Size) -> torch.Tensor | None:
        """Returns the camera that the teacher estimated, in pixels of the image."""
        if table.cameras is None or not np.isfinite(table.cameras[member, self._teacher]).all():
            return None
        grow = torch.tensor([[size[1] / own[1]], [size[0] / own[0]], [1.0]])
        return torch.from_numpy(table.cameras[member, self._teacher]) * grow

    def _member(self, place: int, table: Index, member: int, which: int, key: str) -> bytes:
        offset, size = int(table.offsets[member, which]), int(table.sizes[member, which])
        name = data_name(int(self._manifest.units[place]), self._manifest.hashes[place].decode())
        try:
            data = self._store.read(name, offset, offset + size)
        except OSError as error:
            raise SampleError(f"{key}: {self._store.root}/{name} cannot be read: {error.strerror or error}") from error
        if len(data) < size:
            raise SampleError(f"{key}: {self._store.root}/{name} ends after {len(data)} of the label's {size} bytes")
        return data

    def _find(self, index: int) -> tuple[int, Unit, Index, int]:
        """Returns the unit's place in the manifest, the unit, its index, and the label's place in that."""
        if index >= len(self) and self._grid is not None:
            index %= len(self)
        if not 0 <= index < len(self):
            raise IndexError(f"label {index} of {len(self)}")
        filled = int(np.searchsorted(self._ends, index, side="right"))
        place = int(self._filled[filled])
        member = index - (int(self._ends[filled - 1]) if filled else 0)
        unit, table = self._read(place)
        return place, unit, table, member if self._kept is None else int(self._kept[place][member])

    def _passing(self, place: int, limits: list[tuple[str, float, float]]) -> np.ndarray:
        try:
            table: Index = self._read(place)[1]
        except SampleError as error:
            raise DataError(f"the scores cannot be read: {error}") from error
        keep = np.ones(len(table.rows), dtype=bool)
        for name, low, high in limits:
            if name not in table.scores and len(keep):
                raise DataError(f"the labels have no score '{name}', only {', '.join(sorted(table.scores))}")
            values = table.scores.get(name, np.zeros(0)).astype(np.float64)
            with np.errstate(invalid="ignore"):
                keep &= (values >= low) & (values <= high)
        return np.flatnonzero(keep).astype(np.uint16)
