"""The evaluation of several models: every model beside the trivial answers, one table, one picture, and the files of it."""

from __future__ import annotations

import csv
import io
import itertools
import json
import platform
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit._version import __version__
from dadkit.data.sample import Dataset, SampleError
from dadkit.evaluation.cache import RowCache, cache_key, fingerprint
from dadkit.evaluation.evaluate import Evaluation, evaluate
from dadkit.evaluation.intervals import bootstrap_mean, compare
from dadkit.evaluation.plan import EvaluationPlan
from dadkit.evaluation.protocol import Protocol
from dadkit.evaluation.strips import write_strips
from dadkit.files import write_text
from dadkit.interfaces import DepthModel, ModelSpec
from dadkit.spaces import Space, SpaceError, convert

__all__ = ["MeanMap", "VerticalRamp", "about_models", "evaluate_run", "write_results"]


class VerticalRamp(DepthModel):
    """Nearer towards the bottom: disparity that grows linearly from 0 at the top row to 1 at the bottom, or depth from 1 to 0.

    Args:
        space: disparity or depth; a ramp in metres would need a guess.
    """

    def __init__(self, space: Space = Space.DISPARITY) -> None:
        super().__init__()
        self.spec = ModelSpec(name="vertical-ramp", space=space, range=(0, 1), license="none")

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The ramp, for each image alike."""
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
        """The mean map at the images' size."""
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
        space. A protocol in metres has no ramp.
    """
    protocol, dataset = plan.protocol, plan.open()
    rows: dict[str, DepthModel] = dict(models)
    if plan.trivial:
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
    writer.writerow(["protocol", "crop", "floor", "model", "key", "valid_pixels", *names])
    for e in evaluations:
        head = [protocol.name, e.crop, e.floor, e.model]
        writer.writerows([*head, i.key, i.valid_pixels, *(i.metrics[name] for name in names)] for i in e.images)
    write_text(folder / "evaluation.csv", text.getvalue())


def summarise(evaluations: list[Evaluation], protocol: Protocol, *, about: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What ``evaluation.json`` holds, as plain data without infinities (JSON has none)."""
    return {
        "protocol": {key: value for key, value in protocol.plain().items() if key != "datasets"},
        "protocol_in_words": protocol.words(),
        **(about or {}),
        "models": [_model(e) for e in evaluations],
        "comparisons": comparisons(evaluations, protocol),
    }


def comparisons(evaluations: list[Evaluation], protocol: Protocol) -> list[dict[str, Any]]:
    """Each pair of models on the images that both scored, by the protocol's first metric."""
    metric = protocol.metrics[0]
    found = []
    for first, second in itertools.combinations(evaluations, 2):
        values = [{i.key: i.metrics[metric] for i in e.images} for e in (first, second)]
        comparison = compare(*values)
        if comparison is not None:
            found.append({"first": first.model, "second": second.model, "metric": metric, **asdict(comparison)})
    return found


def _model(e: Evaluation) -> dict[str, Any]:
    columns = {name: [i.metrics[name] for i in e.images] for name in e.images[0].metrics}
    return {
        "model": e.model,
        "images": len(e.images),
        "skipped": e.skipped,
        "failed": e.failed,
        "crop": e.crop,
        "floor": e.floor,
        "mean": e.mean,
        "median": e.median,
        "interval": {name: asdict(bootstrap_mean(values)) for name, values in columns.items()},
    }
