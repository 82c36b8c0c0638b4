"""The evaluation of several models, by several processes if wanted: one table, one picture, and the files of it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import multiprocessing
import platform
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from queue import Empty
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit._version import __version__
from dadkit.data.sample import Dataset
from dadkit.errors import DadkitError, SampleError
from dadkit.evaluation.cache import RowCache, cache_key, fingerprint
from dadkit.evaluation.completion import Completed, trivial_answers
from dadkit.evaluation.evaluate import Evaluation, evaluate
from dadkit.evaluation.intervals import bootstrap_mean, compare
from dadkit.evaluation.plan import EvaluationPlan
from dadkit.evaluation.protocol import Protocol
from dadkit.evaluation.strips import write_strips
from dadkit.files import write_text
from dadkit.interfaces import DepthModel, ModelSpec
from dadkit.spaces import Space, SpaceError, check_conversion, convert

__all__ = ["Job", "MeanMap", "VerticalRamp", "about_models", "evaluate_run", "run_workers", "write_results"]


class VerticalRamp(DepthModel):
    """Nearer towards the bottom: disparity that grows linearly from 0 at the top row to 1 at the bottom, or depth from 1 to 0.

    Args:
        space: disparity or depth; a ramp in metres would need a guess.
    """

    def __init__(self, space: Space = Space.DISPARITY) -> None:
        super().__init__()
        self.spec = ModelSpec(name="vertical-ramp", space=space, range=(0, 1), license="none")

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Returns the ramp, for each image alike."""
        height, width = x.shape[-2:]
        ends = (0, 1) if self.spec.space is Space.DISPARITY else (1, 0)
        ramp = torch.linspace(*ends, height, device=x.device).view(1, 1, height, 1)
        return ramp.expand(x.shape[0], 1, height, width), {}


class MeanMap(DepthModel):
    """The mean of a labelled data set's maps, resized to each image.

    Args:
        mean: (1, 1, h, w) map.
        space: what its numbers are.
    """

    def __init__(self, mean: Tensor, space: Space = Space.DISPARITY) -> None:
        super().__init__()
        self.spec = ModelSpec(name="mean-map", space=space, license="none")
        self.mean: Tensor
        self.register_buffer("mean", mean)

    @classmethod
    def of(
        cls, dataset: Dataset, *, space: Space = Space.DISPARITY, limit: int = 256, size: tuple[int, int] = (64, 64)
    ) -> MeanMap:
        """Average the first ``limit`` readable samples in ``space``.

        Affine-invariant maps are standardised first, so that no image outweighs the others. Sky counts as disparity 0; in depth
        it takes no part, nor do unknown pixels anywhere. Where no sample knows a pixel, the mean is 0.

        Raises:
            dadkit.spaces.SpaceError: the labels do not convert to ``space``.
        """
        total, count = torch.zeros(1, 1, *size, dtype=torch.float64), torch.zeros(1, 1, *size, dtype=torch.float64)
        for index in range(min(limit, len(dataset))):
            try:
                sample = dataset[index]
            except SampleError:
                continue
            if sample.depth is None or sample.space is None:
                continue
            values, valid = convert(sample.depth, sample.valid, sample.space, space)
            values = F.interpolate(values[None].double(), size, mode="nearest-exact")
            known = torch.isfinite(values)
            if valid is not None:
                known &= F.interpolate(valid[None].double(), size, mode="nearest-exact") > 0
            if int(known.sum()) < 2:
                continue
            if space is not Space.METRIC:
                values = (values - values[known].mean()) / values[known].std().clamp_min(1e-12)
            total += torch.where(known, values, 0.0)
            count += known
        return cls((total / count.clamp_min(1)).float(), space)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Returns the mean map at the images' size."""
        resized = F.interpolate(self.mean, x.shape[-2:], mode="bilinear", align_corners=False)
        return resized.expand(x.shape[0], -1, -1, -1), {}


def evaluate_run(
    plan: EvaluationPlan,
    folder: Path,
    models: Mapping[str, DepthModel],
    *,
    training_data: Dataset | None = None,
    progress: Callable[[str, int], None] | None = None,
    cache: Path | None = None,
    workers: Callable[[str, str, str], None] | None = None,
) -> list[Evaluation]:
    """Evaluate the models of a run and write ``evaluation.json``, ``evaluation.csv`` and ``evaluation.jpg`` into ``folder``.

    Args:
        plan: dataset, protocol, limits.
        folder: the run's folder.
        models: row name -> model, in the order of the table (teacher first).
        training_data: a labelled training set for the mean map; without one, or with labels that do not convert to the
            protocol's space, that row is left out.
        progress: called with (row name, images done).
        cache: folder of rows that are already measured; None measures everything.
        workers: called with (row name, the model's fingerprint, key of the cache) before a model is measured here: measures it
            in other processes, into the cache. Trivial rows are measured here.

    Returns:
        One evaluation per row: the models, then (``plan.trivial``) the vertical ramp and the mean map, in the protocol's
        space. A protocol in metres has no ramp. A protocol with points has the trivial completions first, always.

    Raises:
        dadkit.spaces.SpaceError: a model's answers do not convert to the protocol's space; before anything is measured.
    """
    protocol, dataset = plan.protocol, plan.open()
    if protocol.task == "depth" and protocol.points is None:
        for name, model in models.items():
            check_conversion(model.spec.space, protocol.space, what=f"'{name}'")
    rows: dict[str, DepthModel] = dict(models)
    if protocol.points is not None:
        rows = trivial_answers(models) | rows
    elif plan.trivial:
        if protocol.space is not Space.METRIC:
            rows["vertical ramp"] = VerticalRamp(protocol.space)
        if training_data is not None:
            with suppress(SpaceError):  # labels of another space: a row less, not a run without a table
                rows["mean map"] = MeanMap.of(training_data, space=protocol.space)
    evaluations = []
    for name, model in rows.items():
        known = None
        if cache is not None:
            own = fingerprint(model)
            known = RowCache(cache, cache_key(own, protocol, plan.dataset, plan.options))
            if workers is not None and name in models:
                workers(name, own, known.key)
        evaluations.append(
            evaluate(
                model,
                dataset,
                protocol,
                name=name,
                batch_size=plan.batch_size,
                limit=plan.limit,
                progress=None if progress is None else partial(progress, name),
                cache=known,
            )
        )
    about = {"dataset": {"name": plan.dataset, "options": {key: str(value) for key, value in plan.options.items()}}}
    write_results(folder, evaluations, protocol, about={**about, **about_models(models)})
    if protocol.task == "depth":
        write_strips(folder / "evaluation.jpg", models, evaluations, dataset, protocol)
    return evaluations


def about_models(models: Mapping[str, DepthModel]) -> dict[str, Any]:
    """Licences, spaces and versions, for the results."""
    return {
        "licenses": {name: model.spec.license for name, model in models.items()},
        "spaces": {name: str(model.spec.space) for name, model in models.items()},
        "versions": {"dadkit": __version__, "torch": torch.__version__, "python": platform.python_version()},
    }


def write_results(
    folder: Path, evaluations: list[Evaluation], protocol: Protocol, *, about: Mapping[str, Any] | None = None
) -> None:
    """Write ``evaluation.json`` (means, intervals, protocol, counts, comparisons) and ``evaluation.csv`` (a row per image).

    Args:
        folder: where to.
        evaluations: all under ``protocol``.
        protocol: as it was applied.
        about: further entries of the JSON: dataset, licences, versions.
    """
    write_text(folder / "evaluation.json", json.dumps(summarise(evaluations, protocol, about=about), indent=2) + "\n")
    text = io.StringIO()
    writer = csv.writer(text)
    names = list(protocol.metrics)
    writer.writerow(["protocol", "crop", "floor", "model", "key", "valid_pixels", *names, "camera"])
    for e in evaluations:
        head = [protocol.name, e.crop, e.floor, e.model]
        writer.writerows([*head, i.key, i.valid_pixels, *(i.metrics[name] for name in names), i.camera] for i in e.images)
    write_text(folder / "evaluation.csv", text.getvalue())


def summarise(evaluations: list[Evaluation], protocol: Protocol, *, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Returns what ``evaluation.json`` holds, as plain data without infinities (JSON has none)."""
    return {
        "protocol": {key: value for key, value in protocol.plain().items() if key != "datasets"},
        "protocol_in_words": protocol.words(),
        **(about or {}),
        "models": [_model(e) for e in evaluations],
        "comparisons": comparisons(evaluations, protocol),
    }


def comparisons(evaluations: list[Evaluation], protocol: Protocol) -> list[dict[str, Any]]:
    """Compares each pair of models on the images that both scored, by the protocol's first metric."""
    metric = protocol.metrics[0]
    found = []
    for first, second in itertools.combinations(evaluations, 2):
        values = [{i.key: i.metrics[metric] for i in e.images} for e in (first, second)]
        comparison = compare(*values)
        if comparison is not None:
            found.append({"first": first.model, "second": second.model, "metric": metric, **asdict(comparison)})
    return found


def _model(e: Evaluation) -> dict[str, Any]:
    columns = {name: values for name, values in e.columns.items() if values}
    return {
        "model": e.model,
        "images": len(e.images),
        "skipped": e.skipped,
        "failed": e.failed,
        "crop": e.crop,
        "floor": e.floor,
        "cameras": e.cameras,
        "mean": {name: e.mean[name] for name in columns},
        "median": {name: e.median[name] for name in columns},
        "interval": {name: asdict(bootstrap_mean(values)) for name, values in columns.items()},
    }


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
        completer, completer_options: as :func:`dadkit.loading.load_completer` takes them; None = no completer.
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
    completer: str | None = None
    completer_options: Mapping[str, Any] = field(default_factory=dict)
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
    from dadkit.loading import load_completer, load_model, set_precision
    from dadkit.plugin import get_registry

    try:
        if job.plugin is not None:
            get_registry().use_file(job.plugin)
        torch.set_num_threads(max(1, torch.get_num_threads() // job.processes))
        device = job.device
        if device == "cuda":
            device = f"cuda:{part % torch.cuda.device_count()}"
        model = set_precision(load_model(job.model, **job.model_options), job.precision).to(device)
        if job.completer is not None:
            model = Completed(model, load_completer(job.completer, **job.completer_options))
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
    except DadkitError as error:
        messages.put((part, "error", (error.exit_code, str(error))))
    else:
        messages.put((part, "end", None))


def _check_model(model: Any, job: Job) -> None:
    from dadkit.evaluation.cache import fingerprint

    if fingerprint(model) != job.fingerprint:
        raise DadkitError(
            f"'{job.model}' is another model each time it is loaded: it starts from random weights. Give it weights "
            f"('{job.model}:weights=…'), or evaluate in one process"
        )
