"""A set of labels on disk or in a bucket: what is to be labelled, what is labelled, and where each label is.

``plan.json`` says what is labelled how; ``plan-HASH.units`` lists the images in units of about 1,000, one compressed block
each, with a table of where the blocks begin, so that 62 million images are opened without being read. A finished unit is a
*record* ``units/000017.json``, which names ``data/000017.HASH.tar`` and its side index ``.idx``. A *manifest* is all records
in one file.
"""

from __future__ import annotations

import io
import json
import math
import zipfile
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from dadkit.data.store import Store
from dadkit.errors import DataError, SampleError

__all__ = [
    "Index",
    "Manifest",
    "Unit",
    "UnitTable",
    "cells",
    "data_name",
    "newest_manifest",
    "read_plan",
    "record_name",
    "write_units",
]

PLAN = "plan.json"


def record_name(unit: int) -> str:
    """Returns the name of a unit's record."""
    return f"units/{unit:06d}.json"


def data_name(unit: int, sha12: str, suffix: str = ".tar") -> str:
    """Returns the name of a unit's tar, or of its side index (``.idx``)."""
    return f"data/{unit:06d}.{sha12}{suffix}"


def cells(height: int, width: int, side: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Returns the boxes x0, y0, x1, y1 of the patches that are labelled of an image, row by row.

    They are squares that cover the image, evenly spread; neighbours share at least ``overlap`` pixels. Of an image with a
    shorter side than ``side`` they have that side.

    >>> cells(100, 160, 100, 20)
    [(0, 0, 100, 100), (60, 0, 160, 100)]
    """
    side = min(side, height, width)
    overlap = min(overlap, side - 1)

    def starts(length: int) -> list[int]:
        count = max(1, math.ceil((length - overlap) / (side - overlap)))
        return [place * (length - side) // max(1, count - 1) for place in range(count)]

    return [(x, y, x + side, y + side) for y in starts(height) for x in starts(width)]


def read_plan(store: Store) -> dict[str, Any] | None:
    """Returns what ``plan.json`` says; None if there is none.

    Raises:
        DataError: it is damaged.
    """
    try:
        plan: dict[str, Any] = json.loads(store.read(PLAN))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise DataError(f"{store.root}/{PLAN} is damaged: {error}") from error
    return plan


@dataclass(frozen=True)
class Unit:
    """The images of one unit.

    Attributes:
        number: of the unit.
        keys: the images' keys, unique in the plan.
        names: their files relative to the plan's ``base``; or nothing, if they are members of one ``shard``.
        shard: the tar shard relative to ``base``, or "".
        offsets, sizes: where the members begin, and how many bytes they have.
        stamp: size and time of change of the shard when the plan was made.
    """

    number: int
    keys: list[str]
    names: list[str] = field(default_factory=list)
    shard: str = ""
    offsets: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    stamp: str = ""

    def __len__(self) -> int:
        return len(self.keys)

    def block(self) -> bytes:
        """Returns the unit as bytes. Members of a shard are stored by the gaps between them, which compress better."""
        gaps = np.diff(np.array(self.offsets, dtype=np.int64), prepend=0).tolist()
        return zlib.compress(json.dumps([self.keys, self.names, self.shard, gaps, self.sizes, self.stamp]).encode(), 6)

    @classmethod
    def from_block(cls, number: int, block: bytes) -> Unit:
        """Returns the inverse of :meth:`block`."""
        keys, names, shard, gaps, sizes, stamp = json.loads(zlib.decompress(block))
        return cls(number, keys, names, shard, np.cumsum(np.array(gaps, dtype=np.int64)).tolist(), sizes, stamp)


def write_units(file: Path, units: Iterable[Unit]) -> tuple[int, int]:
    """Write a table of units: blocks, then (ends, counts) as int64, then the number of units.

    Returns:
        The numbers of units and of images.
    """
    ends, counts = [], []
    with file.open("wb") as handle:
        for unit in units:
            handle.write(unit.block())
            ends.append(handle.tell())
            counts.append(len(unit))
        handle.write(np.array([*ends, *counts, len(ends)], dtype="<i8").tobytes())
    return len(ends), sum(counts)


class UnitTable:
    """The units of a plan; a block is read when it is asked for.

    Args:
        store: where.
        name: the object that :func:`write_units` wrote.
    """

    def __init__(self, store: Store, name: str) -> None:
        self._store, self._name = store, name
        size = store.size(name)
        (count,) = np.frombuffer(store.read(name, size - 8, size), "<i8").tolist()
        table = np.frombuffer(store.read(name, size - 8 - 16 * count, size - 8), "<i8")
        self._ends, self.counts = table[:count], table[count:]

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, number: int) -> Unit:
        start = int(self._ends[number - 1]) if number else 0
        return Unit.from_block(number, self._store.read(self._name, start, int(self._ends[number])))


@dataclass(frozen=True, eq=False)
class Index:
    """The side index of one unit: what is in its tar and where, and the scores.

    Attributes:
        rows: (n,) int32, the labels' places in the unit; images that could not be read have no row.
        offsets, sizes: (n, m) int64 and int32, where the bytes of the m members of each label are: one map a teacher, one mask
            of sky a teacher, and for each of the patches (:func:`cells`) one map a teacher. A size of 0 means that there is
            none.
        scores: name -> (n,) array; see :mod:`dadkit.labelling.scores`.
        cameras: (n, m, 3, 3) float32 that the teachers estimate, NaN where they do not; or None.
    """

    rows: np.ndarray
    offsets: np.ndarray
    sizes: np.ndarray
    scores: Mapping[str, np.ndarray] = field(default_factory=dict)
    cameras: np.ndarray | None = None

    def to_bytes(self) -> bytes:
        """Returns the index as a file."""
        buffer = io.BytesIO()
        arrays: dict[str, Any] = {"rows": self.rows, "gaps": np.diff(self.offsets, axis=0, prepend=0), "sizes": self.sizes}
        arrays |= {} if self.cameras is None else {"cameras": self.cameras}
        arrays |= {f"score_{name}": values for name, values in self.scores.items()}
        np.savez_compressed(buffer, **arrays)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> Index:
        """Returns the inverse of :meth:`to_bytes`. Raises :class:`SampleError` for damaged bytes."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
                scores = {name[6:]: arrays[name] for name in arrays.files if name.startswith("score_")}
                cameras = arrays["cameras"] if "cameras" in arrays.files else None
                return cls(arrays["rows"], np.cumsum(arrays["gaps"], axis=0), arrays["sizes"], scores, cameras)
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise SampleError(f"the index of a unit of labels is damaged: {error}") from error


@dataclass(frozen=True, eq=False)
class Manifest:
    """All records of finished units in one file.

    Attributes:
        number: of the manifest; a later one holds more units.
        units: (u,) int32, the finished units in order.
        labels: (u,) int32, how many labels each has.
        hashes: (u,) 12 characters each, the hash in the names of its tar and its index.
    """

    number: int
    units: np.ndarray
    labels: np.ndarray
    hashes: np.ndarray

    def to_bytes(self) -> bytes:
        """Returns the manifest as a file."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, units=self.units, labels=self.labels, hashes=self.hashes)
        return buffer.getvalue()

    @classmethod
    def from_records(cls, number: int, records: Iterable[Mapping[str, Any]]) -> Manifest:
        """Returns the manifest of records, in any order."""
        rows = sorted((record["unit"], record["labels"], record["hash"]) for record in records)
        units, labels, hashes = zip(*rows, strict=True) if rows else ((), (), ())
        return cls(number, np.array(units, np.int32), np.array(labels, np.int32), np.array(hashes, "S12"))


def newest_manifest(store: Store, number: int | None = None) -> Manifest:
    """Returns the newest manifest, or the one of that number.

    Raises:
        DataError: there is none.
    """
    names = [name for name in store.names("manifests") if name.endswith(".npz")]
    wanted = names[-1:] if number is None else [f"{number:06d}.npz"]
    if not wanted or wanted[0] not in names:
        raise DataError(
            f"{store.root} has no manifest{'' if number is None else f' {number}'}. `dadkit label` writes one when all units "
            "are done; `dadkit label --compact` makes one of those that are done now"
        )
    with np.load(io.BytesIO(store.read(f"manifests/{wanted[0]}")), allow_pickle=False) as arrays:
        return Manifest(int(wanted[0][:6]), arrays["units"], arrays["labels"], arrays["hashes"])


def cached_reader(store: Store, units: UnitTable, manifest: Manifest, size: int = 64) -> Any:
    """Returns a function: place in the manifest -> (unit, index), of which the last ``size`` are kept."""

    @lru_cache(maxsize=size)
    def read(place: int) -> tuple[Unit, Index]:
        number = int(manifest.units[place])
        try:
            data = store.read(data_name(number, manifest.hashes[place].decode(), ".idx"))
        except OSError as error:
            raise SampleError(f"the index of unit {number} cannot be read: {error.strerror or error}") from error
        return units[number], Index.from_bytes(data)

    return read
