"""The evaluation at the end of a run: every model beside the trivial answers, one table, one picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from dadkit import pictures
from dadkit.config.components import build
from dadkit.config.schema import EvaluationConfig
from dadkit.data.sample import Dataset, Sample
from dadkit.evaluation.baselines import MeanMap, VerticalRamp
from dadkit.evaluation.evaluate import Evaluation, evaluate, read_samples, write_results
from dadkit.evaluation.protocol import Protocol, load_protocol
from dadkit.files import atomic_path
from dadkit.interfaces import DepthModel
from dadkit.spaces import Space

__all__ = ["evaluate_run", "write_strips"]

STUDENT = "student"
STRIPS = 6


def evaluate_run(
    config: EvaluationConfig,
    folder: Path,
    models: Mapping[str, DepthModel],
    *,
    training_data: Dataset | None = None,
    progress: Callable[[str, int], None] | None = None,
) -> list[Evaluation]:
    """Evaluate the models of a run and write ``evaluation.json``, ``evaluation.csv`` and ``evaluation.jpg`` into ``folder``.

    Args:
        config: dataset, protocol, limits.
        folder: the run's folder.
        models: row name -> model, in the order of the table (teacher first).
        training_data: a labelled training set for the mean map; without one that row is left out.
        progress: called with (row name, images done).

    Returns:
        One evaluation per row: the models, then (``config.trivial``) the vertical ramp and the mean map.
    """
    protocol = load_protocol(config.protocol)
    dataset = build("dataset", config.data.name, config.data.options)
    rows: dict[str, DepthModel] = dict(models)
    if config.trivial:
        rows["vertical ramp"] = VerticalRamp()
        if training_data is not None:
            rows["mean map"] = MeanMap.of(training_data)
    evaluations = [
        evaluate(
            model,
            dataset,
            protocol,
            name=name,
            batch_size=config.batch_size,
            limit=config.limit,
            progress=None if progress is None else lambda done, name=name: progress(name, done),
        )
        for name, model in rows.items()
    ]
    write_results(folder, evaluations, protocol)
    write_strips(folder / "evaluation.jpg", models, evaluations, dataset, protocol)
    return evaluations


def write_strips(
    path: Path, models: Mapping[str, DepthModel], evaluations: list[Evaluation], dataset: Dataset, protocol: Protocol
) -> None:
    """Draw a few images from best to worst: image, truth, then each model's aligned depth on the truth's limits, and its error.

    The images are chosen by the AbsRel of the model called ``student``, or else of the last one: best, worst, evenly between.
    """
    judge = STUDENT if STUDENT in models else list(models)[-1]
    judged = next(e for e in evaluations if e.model == judge)
    order = sorted(judged.images, key=lambda image: image.metrics["abs_rel"])
    picks = {order[i].key for i in np.linspace(0, len(order) - 1, min(STRIPS, len(order))).round().astype(int)}
    ranked = [image.key for image in order if image.key in picks]
    samples = _find(dataset, picks)
    first = samples[ranked[0]].image.shape
    shown = [samples[key] for key in ranked if samples[key].image.shape == first]
    titles = ["image", "truth"] + [title for name in models for title in (name, "error")]
    picture = pictures.grid([_strip(sample, models, protocol) for sample in shown], titles=titles)
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, quality=90)


def _strip(sample: Sample, models: Mapping[str, DepthModel], protocol: Protocol) -> list[pictures.Picture]:
    assert sample.depth is not None
    valid = torch.ones_like(sample.depth, dtype=torch.bool) if sample.valid is None else sample.valid
    limits = pictures.percentile_limits(pictures.nearness(sample.depth, Space.METRIC), valid)
    row = [pictures.to_uint8(sample.image), pictures.colorize(sample.depth, space=Space.METRIC, valid=valid, limits=limits)]
    for model in models.values():
        prediction = model.predict(sample.image.float() / 255)
        device = prediction.depth.device
        depth = protocol.score(prediction, sample.depth[None].to(device), valid[None].to(device)).depth[0]
        row.append(pictures.colorize(depth, space=Space.METRIC, limits=limits))
        row.append(pictures.error_map(depth, sample.depth, valid))
    return row


def _find(dataset: Dataset, keys: set[str]) -> dict[str, Sample]:
    found: dict[str, Sample] = {}
    for sample in read_samples(dataset, None, []):
        if sample.key in keys:
            found[sample.key] = sample
        if len(found) == len(keys):
            break
    return found
