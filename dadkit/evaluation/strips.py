"""Pictures of the best and the worst: image, truth, aligned predictions on the truth's limits, errors on a fixed scale."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from dadkit import pictures
from dadkit.data.sample import Dataset, Sample
from dadkit.evaluation.evaluate import Evaluation, answer, read_samples, seen_under, truth_of
from dadkit.evaluation.protocol import Protocol
from dadkit.files import atomic_path
from dadkit.interfaces import DepthModel
from dadkit.spaces import Space

__all__ = ["find_samples", "picks", "strip", "write_strips"]

STUDENT = "student"
STRIPS = 6
MAX_SIDE = 480
"""Larger pictures are made smaller for the grid; ETH3D's have 24 megapixels."""
MIN_SIDE = 120
"""Smaller pictures are enlarged, so that a column has room for its title."""


def write_strips(
    path: Path, models: Mapping[str, DepthModel], evaluations: list[Evaluation], dataset: Dataset, protocol: Protocol
) -> None:
    """Draw a few images from best to worst: image, truth, then each model's aligned depth on the truth's limits, and its error.

    The images are chosen by the first metric of the model called ``student``, or else of the last one: best, worst, evenly
    between. Pictures of another size than the best one's are brought to its size.
    """
    judge = STUDENT if STUDENT in models else list(models)[-1]
    judged = next(e for e in evaluations if e.model == judge)
    ranked = picks(judged, protocol, STRIPS)
    samples = find_samples(dataset, set(ranked))
    titles = ["image", "truth"] + [title for name in models for title in (name, "error")]
    rows = [strip(samples[key], models, protocol) for key in ranked]
    size = rows[0][0].shape[1], rows[0][0].shape[0]
    rows = [[np.asarray(Image.fromarray(p).resize(size)) if p.shape[1::-1] != size else p for p in row] for row in rows]
    with atomic_path(path) as temporary:
        Image.fromarray(pictures.grid(rows, titles=titles)).save(temporary, quality=90)


def picks(evaluation: Evaluation, protocol: Protocol, count: int) -> list[str]:
    """Returns the keys from the best to the worst image by the protocol's first metric, evenly between."""
    from dadkit.evaluation.metrics import find_metric

    metric = find_metric(protocol.metrics[0])
    order = sorted(evaluation.images, key=lambda image: image.metrics[metric.name], reverse=metric.higher_is_better)
    places = np.linspace(0, len(order) - 1, min(count, len(order))).round().astype(int)
    return [order[place].key for place in places]


def strip(sample: Sample, models: Mapping[str, DepthModel], protocol: Protocol) -> list[pictures.Picture]:
    """Returns image, truth, and for each model its aligned depth and its error, as the protocol sees them."""
    sample = seen_under(protocol, sample)
    depth, valid = truth_of(sample, protocol)
    space = protocol.truth_space
    limits = pictures.percentile_limits(pictures.nearness(depth, space), valid)
    spread = None if space is Space.METRIC else limits[1] - limits[0]
    row = [pictures.to_uint8(sample.image), pictures.colorize(depth, space=space, valid=valid, limits=limits)]
    for model in models.values():
        prediction, hints = answer(protocol, model, [sample], batch_size=1)
        device = prediction.depth.device
        scores = protocol.score(prediction, depth[None].to(device), valid[None].to(device), hints)
        row.append(pictures.colorize(scores.depth[0], space=space, limits=limits))
        row.append(pictures.error_map(scores.depth[0], depth, scores.valid[0], spread=spread))
    return _fitted(row)


def find_samples(dataset: Dataset, keys: set[str]) -> dict[str, Sample]:
    """Returns the samples with these keys. A dataset that offers ``key(index)`` is not read for the others."""
    key_of = getattr(dataset, "key", None)
    if key_of is not None:
        return {key: dataset[index] for index in range(len(dataset)) if (key := key_of(index)) in keys}
    found: dict[str, Sample] = {}
    for sample in read_samples(dataset, None, []):
        if sample.key in keys:
            found[sample.key] = sample
        if len(found) == len(keys):
            break
    return found


def _fitted(row: Sequence[pictures.Picture]) -> list[pictures.Picture]:
    """Resizes the pictures by whole steps."""
    sides = row[0].shape[:2]
    step, zoom = -(-max(sides) // MAX_SIDE), max(1, -(-MIN_SIDE // min(sides)))
    if step > 1:
        return [np.ascontiguousarray(picture[::step, ::step]) for picture in row]
    return [picture.repeat(zoom, axis=0).repeat(zoom, axis=1) for picture in row]
