"""Give units to workers until all are done: the one loop of every executor.

Correctness is the record's, which is created exclusively. What this loop adds is speed and patience: claims, so that several
loops on one folder share the work; some tries for a unit whose worker was lost; a stop when too much is wrong.
"""

from __future__ import annotations

import json
import os
import platform
import threading
import time
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from dadkit.data.label_set import Manifest, newest_manifest, record_name
from dadkit.data.store import Store
from dadkit.errors import DadkitError, DataError
from dadkit.labelling.pools import Pool

__all__ = ["Claims", "Outcome", "finished_units", "label_units", "last_manifest"]

_PAGE = 1000  # names that a bucket lists in one answer
_STARTS = 3  # workers in a row that may fail to start


@dataclass
class Outcome:
    """What a run of the loop did.

    Attributes:
        units, labels: finished in this run, by this loop.
        errors: images that could not be labelled, by class.
        failed: units that were given up, with the last error.
        elsewhere: units that others finished meanwhile.
        seconds: of the loop.
    """

    units: int = 0
    labels: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    failed: dict[int, str] = field(default_factory=dict)
    elsewhere: int = 0
    seconds: float = 0.0


class Claims:
    """Advisory claims on units, so that work is not done twice; renewed by a thread.

    Args:
        store: where.
        ttl: seconds without renewal after which a claim is void.
    """

    def __init__(self, store: Store, ttl: float = 120.0) -> None:
        self._store, self._ttl = store, ttl
        self._owner = f"{platform.node()} {os.getpid()} {uuid.uuid4().hex}"
        self._held: set[int] = set()
        self._lock, self._over = threading.Lock(), threading.Event()
        self._thread = threading.Thread(target=self._renew, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._over.set()
        self._thread.join(5)
        for unit in list(self._held):
            self.release(unit)

    def take(self, unit: int) -> bool:
        """Returns True if the unit is this loop's now, False if another one works on it."""
        name, body = _claim(unit), self._body()
        taken = self._store.create(name, body, lasting=False)
        if not taken and self._store.age(name) > self._ttl:
            self._store.remove(name)
            taken = self._store.create(name, body, lasting=False)
        if taken:
            with self._lock:
                self._held.add(unit)
        return taken

    def release(self, unit: int) -> None:
        """Give a claim back."""
        with self._lock:
            self._held.discard(unit)
        self._store.remove(_claim(unit))

    def _renew(self) -> None:
        while not self._over.wait(self._ttl / 4):
            with self._lock:
                for unit in self._held:
                    try:
                        self._store.write(_claim(unit), self._body())
                    except (OSError, DadkitError):
                        break  # a claim that is not renewed costs work done twice, no label

    def _body(self) -> bytes:
        return json.dumps({"owner": self._owner, "time": time.time()}).encode()


def _claim(unit: int) -> str:
    return f"claims/{unit:06d}"


def finished_units(store: Store, units: int = 0) -> set[int]:
    """Returns the units that have a record.

    Of a bucket only those thousands of records are listed that the newest manifest does not hold whole, and these at once.

    Args:
        store: where records are.
        units: how many the plan has; 0: not known, and everything is listed.
    """
    manifest = last_manifest(store) if units > _PAGE else None
    known = set() if manifest is None else set(manifest.units.tolist())
    held = Counter(unit // _PAGE for unit in known)
    parts = [""]
    if units > _PAGE:
        firsts = range(0, units, _PAGE)
        parts = [f"{first:06d}"[:-3] for first in firsts if held[first // _PAGE] < min(_PAGE, units - first)]
    names = store.names("units", parts) if parts else []
    return known | {int(name[:-5]) for name in names if name.endswith(".json") and name[:-5].isdecimal()}


def last_manifest(store: Store) -> Manifest | None:
    """Returns the newest manifest of a bucket; None if it has none, and of a folder, which costs nothing to list."""
    try:
        return newest_manifest(store) if store.remote else None
    except DataError:
        return None


def label_units(
    store: Store,
    todo: Iterable[int],
    pool: Pool,
    claims: Claims,
    *,
    max_tries: int = 3,
    max_error_rate: float = 0.2,
    min_tried: int = 100,
    finished: Callable[[Mapping[str, Any]], None] | None = None,
    patience: float = 2.0,
) -> Outcome:
    """Have the units labelled that no other loop labels.

    Args:
        store: where records are.
        todo: the units.
        pool: the workers; closed at the end.
        claims: entered already.
        max_tries: workers that a unit may lose before it is given up.
        max_error_rate: the job stops when more than this share of the images could not be labelled.
        min_tried: images tried before that share is judged.
        finished: called with each record.
        patience: seconds between looks at the units of others.

    Returns:
        What was done. Units that were given up are named in ``failed/``.

    Raises:
        DataError: too many images are broken, or a source changed.
        DadkitError: workers do not start, the disk is full, …; all workers are ended.
    """
    waiting, others = deque(todo), deque[int]()
    idle: list[int] = []
    busy: dict[int, int] = {}
    tries: Counter[int] = Counter()
    outcome, begun = Outcome(), time.monotonic()
    alive = unstarted = 0
    looked = float("-inf")

    def next_unit() -> int | None:
        nonlocal looked
        while waiting:
            unit = waiting.popleft()
            if claims.take(unit):
                if store.age(record_name(unit)) == float("inf"):
                    return unit
                claims.release(unit)
                outcome.elsewhere += 1
            else:
                others.append(unit)
        if others and time.monotonic() - looked > patience:
            looked = time.monotonic()
            for _ in range(len(others)):
                unit = others.popleft()
                if store.age(record_name(unit)) < float("inf"):
                    outcome.elsewhere += 1
                elif claims.take(unit):
                    return unit
                else:
                    others.append(unit)
        return None

    try:
        while waiting or others or busy:
            while alive < min(pool.size, len(waiting) + len(others) + len(busy)):
                pool.start()
                alive += 1
            while idle and (unit := next_unit()) is not None:
                worker = idle.pop()
                tries[unit] += 1
                busy[worker] = unit
                pool.submit(worker, unit, tries[unit])
            if not (waiting or others or busy):
                break
            events = pool.wait(patience)
            if not events and others and not busy:
                time.sleep(patience / 4)
            for event in events:
                if event.kind == "ready":
                    idle.append(event.worker)
                    unstarted = 0
                elif event.kind == "unstarted":
                    alive, unstarted = alive - 1, unstarted + 1
                    if unstarted >= _STARTS:
                        raise DadkitError(f"{unstarted} workers in a row did not start; the last said:\n{event.text}")
                elif event.kind == "stop":
                    raise DataError(event.text)
                elif event.kind == "lost":
                    alive -= 1
                    if event.worker in idle:  # it died between two units
                        idle.remove(event.worker)
                        continue
                    unit = busy.pop(event.worker)
                    if tries[unit] < max_tries:
                        waiting.appendleft(unit)
                    else:
                        outcome.failed[unit] = event.text
                        body = {"unit": unit, "tries": tries[unit], "error": event.text}
                        store.write(f"failed/{unit:06d}.json", json.dumps(body).encode())
                    claims.release(unit)
                else:
                    assert event.record is not None
                    unit = busy.pop(event.worker)
                    idle.append(event.worker)
                    claims.release(unit)
                    _account(outcome, event.record, max_error_rate, min_tried)
                    if finished is not None:
                        finished(event.record)
    finally:
        outcome.seconds = time.monotonic() - begun
        pool.close()
    return outcome


def _account(outcome: Outcome, record: Mapping[str, Any], max_error_rate: float, min_tried: int) -> None:
    outcome.units += 1
    outcome.labels += record["labels"]
    outcome.errors.update(error["class"] for error in record["errors"])
    tried, broken = outcome.labels + outcome.errors.total(), outcome.errors.total()
    if tried >= min_tried and broken > max_error_rate * tried:
        last = record["errors"][-1] if record["errors"] else {"key": "?", "text": ""}
        raise DataError(
            f"{broken} of {tried} images could not be labelled, more than the error rate {max_error_rate:g} allows. The last: "
            f"{last['key']}: {last['text']}"
        )
