"""Measure one model in several processes; each takes every n-th image and writes its rows into the cache."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from typing import Any

from dadkit.errors import DadkitError
from dadkit.evaluation.plan import EvaluationPlan

__all__ = ["Job", "run_workers"]


@dataclass(frozen=True)
class Job:
    """What a process needs to build everything itself: names and options, no objects.

    Attributes:
        model, model_options: as :func:`dadkit.loading.load_model` takes them.
        plan: what is measured.
        cache, key: where rows are kept.
        fingerprint: of the model as the caller has it; a process with another model refuses.
        processes: how many share the images.
        plugin: a local plugin file that the processes use too.
        precision: of the model's parameters, see :func:`dadkit.loading.set_precision`.
        device: ``cpu``, ``cuda:0`` or ``cuda`` (the processes are then spread over all GPUs).
    """

    model: str
    plan: EvaluationPlan
    cache: Path
    key: str
    fingerprint: str
    processes: int
    model_options: Mapping[str, Any] = field(default_factory=dict)
    precision: str = "fp32"
    plugin: Path | None = None
    device: str = "cpu"


def run_workers(job: Job, *, progress: Callable[[int], None] | None = None) -> None:
    """Run the processes until all are done.

    Args:
        job: what to do.
        progress: called with the number of images done by all of them.

    Raises:
        DadkitError: a process failed; the others are stopped. What was measured stays in the cache.
    """
    context = multiprocessing.get_context("spawn")  # a forked process cannot use CUDA
    messages = context.Queue()
    processes = [context.Process(target=_work, args=(job, part, messages), daemon=True) for part in range(job.processes)]
    for process in processes:
        process.start()
    done, running = dict.fromkeys(range(job.processes), 0), set(range(job.processes))
    try:
        while running:
            try:
                part, kind, value = messages.get(timeout=1)
            except Empty:
                _check_alive(processes, running)
                continue
            if kind == "error":
                raise _failure(value)
            if kind == "end":
                running.discard(part)
            else:
                done[part] = value
                if progress is not None:
                    progress(sum(done.values()))
    finally:
        for process in processes:
            if running:
                process.terminate()
            process.join()


def _check_alive(processes: Sequence[BaseProcess], running: set[int]) -> None:
    for part in running:
        code = processes[part].exitcode
        if code not in (None, 0):
            raise DadkitError(f"evaluation process {part} died with exit code {code}; rows measured so far are kept, run again")


def _failure(value: tuple[int, str]) -> DadkitError:
    error = DadkitError(value[1])
    error.exit_code = value[0]
    return error


def _work(job: Job, part: int, messages: Any) -> None:
    import torch

    from dadkit.evaluation.cache import RowCache
    from dadkit.evaluation.evaluate import score_rows
    from dadkit.loading import load_model, set_precision
    from dadkit.plugin import get_registry
    from dadkit.spaces import SpaceError

    try:
        if job.plugin is not None:
            get_registry().use_file(job.plugin)
        torch.set_num_threads(max(1, torch.get_num_threads() // job.processes))
        device = job.device
        if device == "cuda":
            device = f"cuda:{part % torch.cuda.device_count()}"
        model = set_precision(load_model(job.model, **job.model_options), job.precision).to(device)
        _check_model(model, job)
        plan, dataset = job.plan, job.plan.open()
        count = len(dataset) if plan.limit is None else min(plan.limit, len(dataset))
        score_rows(
            model,
            dataset,
            plan.protocol,
            range(part, count, job.processes),
            batch_size=plan.batch_size,
            progress=lambda done: messages.put((part, "done", done)),
            cache=RowCache(job.cache, job.key, part),
        )
    except (DadkitError, SpaceError) as error:
        messages.put((part, "error", (getattr(error, "exit_code", 2), str(error))))
    else:
        messages.put((part, "end", None))


def _check_model(model: Any, job: Job) -> None:
    from dadkit.evaluation.cache import fingerprint

    if fingerprint(model) != job.fingerprint:
        raise DadkitError(
            f"'{job.model}' is another model each time it is loaded: it starts from random weights. Give it weights "
            f"('{job.model}:weights=…'), or evaluate in one process"
        )
