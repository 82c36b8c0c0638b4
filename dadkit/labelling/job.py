"""A whole job: plan, workers, units, manifest. What `dadkit label` does."""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal

import torch

from dadkit.data.store import FolderStore, open_store
from dadkit.data.unlabelled import Images
from dadkit.errors import DataError
from dadkit.labelling.answers import load_answers
from dadkit.labelling.labeller import Labeller
from dadkit.labelling.plan import Plan, Settings, make_plan, open_plan, store_plan
from dadkit.labelling.pools import InlinePool, Pool, ProcessPool, RayPool
from dadkit.labelling.schedule import Claims, Outcome, finished_units, label_units
from dadkit.labelling.upkeep import compact

__all__ = ["Estimate", "Executor", "estimate", "label", "make_labeller", "open_or_make"]

_MANIFEST_EVERY = 1000  # units; a manifest of a bucket spares the next start its list


@dataclass(frozen=True)
class Executor:
    """How a job runs; nothing of it changes a label's meaning.

    Attributes:
        kind: ``local`` or ``ray``.
        workers: how many; 0 labels in this process; None: one a GPU, or one where there is none (``ray``: one a CPU).
        device: of each worker, see :func:`dadkit.loading.pick_device`.
        batch_size: images of one size that share a forward pass; None: see :class:`Labeller`.
        threads: threads of each worker that read ahead, and as many that encode behind.
        plugin: a file with hooks, used in each worker.
        address: of the Ray cluster.
        ttl: seconds after which the claim of a silent job is void.
    """

    kind: Literal["local", "ray"] = "local"
    workers: int | None = None
    device: str = "auto"
    batch_size: int | None = None
    threads: int = 2
    plugin: Path | None = None
    address: str = "auto"
    ttl: float = 120.0

    def open(self, root: str) -> Pool:
        """Returns the workers for the labels in ``root``."""
        options: dict[str, Any] = {"batch_size": self.batch_size, "threads": self.threads, "plugin": self.plugin}
        if self.kind == "ray":
            return RayPool(
                partial(make_labeller, root, cores=1, device=self.device, **options), self.workers, address=self.address
            )
        gpus = torch.cuda.device_count() if self.device == "auto" else 0
        workers = max(1, gpus) if self.workers is None else self.workers
        if workers == 0:
            return InlinePool(partial(make_labeller, root, device=self.device, **options))
        cores = max(1, (os.cpu_count() or 1) // workers)
        devices = tuple(f"cuda:{number % gpus}" if gpus else self.device for number in range(workers))
        return ProcessPool(partial(make_labeller, root, cores=cores, **options), workers, devices=devices)


def make_labeller(root: str, *, cores: int | None = None, plugin: Path | None = None, **options: Any) -> Labeller:
    """Returns a labeller in a fresh process; arguments as in :class:`Labeller` and :class:`Executor`."""
    if cores is not None:
        torch.set_num_threads(cores)
    if plugin is not None:
        from dadkit.plugin import get_registry

        get_registry().use_file(plugin)
    return Labeller(root, **options)


def open_or_make(root: str, settings: Settings) -> Plan:
    """Returns the plan of a folder, made if there is none. The teachers are loaded only to make it.

    Raises:
        PlanError: the folder holds labels of another plan.
        dadkit.errors.DataError: there are no images, or the bucket cannot be written exclusively.
    """
    settings.check()
    store = open_store(root, probe=True)
    found = open_plan(store, settings)
    if found is not None:
        return found
    return make_plan(store, settings, [one.about for one in _answers(settings, "cpu")])


def label(
    root: str,
    settings: Settings,
    executor: Executor | None = None,
    *,
    max_error_rate: float = 0.2,
    max_tries: int = 3,
    started: Callable[[Plan, set[int]], None] | None = None,
    finished: Callable[[Mapping[str, Any]], None] | None = None,
) -> Outcome:
    """Label what is not labelled yet. The same call goes on where a killed one was.

    Args:
        root: folder or address of the labels.
        settings: what is labelled how.
        executor: where; None is this machine.
        max_error_rate: the job stops when more than this share of the images could not be labelled.
        max_tries: workers that a unit may lose before it is given up.
        started: called with the plan and the units that were finished before.
        finished: called with each record.

    Raises:
        PlanError: the folder holds labels of another plan.
        dadkit.errors.DadkitError: the job cannot go on; what is labelled is kept.
    """
    executor = executor or Executor()
    plan = open_or_make(root, settings)
    store = open_store(root)
    done = finished_units(store, plan.units)
    if started is not None:
        started(plan, done)
    todo = [unit for unit in range(plan.units) if unit not in done]
    count = 0

    def noted(record: Mapping[str, Any]) -> None:
        nonlocal count
        count += 1
        if store.remote and count % _MANIFEST_EVERY == 0:
            compact(store, plan)
        if finished is not None:
            finished(record)

    outcome = Outcome()
    if todo:
        place = store.root if isinstance(store, FolderStore) else root
        with Claims(store, executor.ttl) as claims:
            outcome = label_units(
                store,
                todo,
                executor.open(place),
                claims,
                max_error_rate=max_error_rate,
                max_tries=max_tries,
                finished=noted,
            )
    if not outcome.failed:
        compact(store, plan)
    return outcome


@dataclass(frozen=True)
class Estimate:
    """What a job would cost, from a few labelled images.

    Attributes:
        images, units: how many.
        seconds: of one worker on this machine, for all images.
        bytes: codec -> of all labels.
        requests: writes to a bucket: a tar, an index, a record and a claim a unit.
        broken: of the tried images, how many could not be labelled.
    """

    images: int
    units: int
    seconds: float
    bytes: Mapping[str, float] = field(default_factory=dict)
    requests: int = 0
    broken: int = 0


def estimate(settings: Settings, executor: Executor | None = None, *, images: int = 8) -> Estimate:
    """Label ``images`` images, evenly drawn, by each codec in a temporary folder. Nothing is left.

    Raises:
        dadkit.errors.DadkitError: there are no images, a teacher cannot be loaded, or no image could be labelled.
    """
    from dataclasses import replace

    from dadkit.data.label_set import Unit
    from dadkit.labelling.plan import common_base, cut_units

    settings.check()
    executor = executor or Executor()
    found = Images(**settings.images)
    answers = _answers(settings, executor.device)
    about = [one.about for one in answers]
    drawn = sorted({index * len(found) // images for index in range(images)})
    sample = _Some(found, drawn)
    base = common_base([found.place(index)[0] for index in drawn])
    sizes: dict[str, float] = {}
    seconds = math.inf
    broken = 0
    for codec in _codecs():
        with tempfile.TemporaryDirectory(prefix="dadkit-label-") as folder:
            own = replace(settings, codec=codec)
            units: list[Unit] = list(cut_units(sample, base, len(drawn)))  # type: ignore[arg-type]
            plan = store_plan(FolderStore(folder), own, about, base, iter(units))
            work = Labeller(folder, batch_size=executor.batch_size, threads=executor.threads, teachers=answers)
            begun = time.perf_counter()
            records = [work(unit) for unit in range(plan.units)]
            seconds = min(seconds, time.perf_counter() - begun)
            labels, broken = sum(r["labels"] for r in records), sum(len(r["errors"]) for r in records)
            if not labels:
                raise DataError(f"none of {len(drawn)} images could be labelled: {records[0]['errors'][0]['text']}")
            sizes[codec] = sum(r["bytes"] for r in records) / labels * len(found)
    units_count = sum(1 for _ in cut_units(found, base, settings.unit))
    return Estimate(len(found), units_count, seconds / len(drawn) * len(found), sizes, 4 * units_count, broken)


class _Some:
    """Some of the images, as :func:`cut_units` takes them."""

    def __init__(self, images: Images, drawn: list[int]) -> None:
        self._images, self._drawn = images, drawn

    def __len__(self) -> int:
        return len(self._drawn)

    def key(self, index: int) -> str:
        """Returns the key of a drawn image."""
        return self._images.key(self._drawn[index])

    def place(self, index: int) -> tuple[Path | str, int, int]:
        """Returns where a drawn image is."""
        return self._images.place(self._drawn[index])


def _codecs() -> list[str]:
    from importlib.util import find_spec

    return ["png12", "png16", *(["zstd"] if find_spec("zstandard") else [])]


def _answers(settings: Settings, device: str) -> Any:
    return load_answers(settings, device)
