"""What is done with finished units: one manifest of all records, and a check of every byte."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from dadkit.data.label_set import Index, Manifest, data_name, record_name
from dadkit.data.store import Store
from dadkit.errors import DadkitError, DataError, SampleError
from dadkit.labelling.plan import Plan
from dadkit.labelling.schedule import finished_units, last_manifest

__all__ = ["compact", "records", "sweep", "verify"]

_DAY = 86400.0


def records(store: Store, units: Iterable[int] | None = None) -> Iterator[dict[str, Any]]:
    """The records of finished units, in order; of ``units`` if they are given.

    Raises:
        DataError: a record is damaged.
    """
    wanted = sorted(finished_units(store) if units is None else units)
    with ThreadPoolExecutor(16) as readers:
        for unit, data in zip(wanted, readers.map(lambda unit: store.read(record_name(unit)), wanted), strict=True):
            try:
                yield json.loads(data)
            except ValueError as error:
                raise DataError(f"the record {store.root}/{record_name(unit)} is damaged: {error}; remove it") from error


def compact(store: Store, plan: Plan) -> Manifest:
    """Returns a new manifest of all records, stored beside the older ones; the newest one, if it holds the same.

    Of a bucket only records are read that the newest manifest does not hold.

    Raises:
        DataError: a record is of another plan, or damaged.
    """
    last = last_manifest(store)
    held = (
        {} if last is None else dict(zip(last.units.tolist(), zip(last.labels.tolist(), last.hashes, strict=True), strict=True))
    )

    def checked() -> Iterator[dict[str, Any]]:
        for unit, (labels, digest) in held.items():
            yield {"unit": unit, "labels": labels, "hash": digest}
        for record in records(store, finished_units(store, plan.units) - set(held)):
            if record["plan"] != plan.hash:
                raise DataError(f"unit {record['unit']} of {store.root} is of another plan; remove its record")
            yield record

    names = [name for name in store.names("manifests") if name.endswith(".npz")]
    number = int(names[-1][:6]) if names else 0
    found = Manifest.from_records(number + 1, checked())
    if names and store.read(f"manifests/{names[-1]}") == found.to_bytes():
        return Manifest(number, found.units, found.labels, found.hashes)
    while not store.create(f"manifests/{found.number:06d}.npz", found.to_bytes()):
        found = Manifest(found.number + 1, found.units, found.labels, found.hashes)
    return found


def sweep(store: Store, *, age: float = _DAY) -> int:
    """Remove tars and indices that no record names and that are older than ``age`` seconds; returns how many.

    They were left by workers that were killed before their record, or that were not the first.
    """
    named = {record["unit"]: record["hash"] for record in records(store)}
    left = 0
    for name in store.names("data"):
        unit, _, rest = name.partition(".")
        if rest.partition(".")[0] != named.get(int(unit)) and store.age(f"data/{name}") > age:
            store.remove(f"data/{name}")
            left += 1
    return left


def verify(store: Store, plan: Plan) -> list[str]:
    """Returns what is wrong, one line each: records, tars, side indices and members are read and hashed."""
    wrong = []
    table = plan.open_units(store)
    for record in records(store):
        unit, digest = record["unit"], record["hash"]
        if record["plan"] != plan.hash:
            wrong.append(f"unit {unit}: the record is of another plan")
        if record["labels"] + len(record["errors"]) != len(table[unit]):
            wrong.append(
                f"unit {unit}: {record['labels']} labels and {len(record['errors'])} errors of {len(table[unit])} images"
            )
        for suffix, field in ((".tar", "tar_sha256"), (".idx", "index_sha256")):
            name = data_name(unit, digest, suffix)
            try:
                data = store.read(name)
            except (OSError, DadkitError) as error:
                wrong.append(f"unit {unit}: {name} cannot be read: {error}")
                continue
            if hashlib.sha256(data).hexdigest() != record[field]:
                wrong.append(f"unit {unit}: {name} is damaged (sha256 differs from the record)")
            elif suffix == ".idx":
                try:
                    rows = Index.from_bytes(data).rows
                except SampleError as error:
                    wrong.append(f"unit {unit}: {error}")
                    continue
                if len(rows) != record["labels"] or len(set(rows.tolist())) != len(rows):
                    wrong.append(
                        f"unit {unit}: the index names {len(set(rows.tolist()))} labels, the record {record['labels']}"
                    )
    return wrong
