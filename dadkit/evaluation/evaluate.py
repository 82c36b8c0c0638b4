"""Run models over a labelled dataset under one protocol: a row per model and image, a mean per model."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from dadkit.data.sample import Dataset, Sample, SampleError
from dadkit.errors import DataError
from dadkit.evaluation.metrics import METRICS
from dadkit.evaluation.protocol import Protocol
from dadkit.files import write_text
from dadkit.interfaces import DepthModel
from dadkit.spaces import Space

__all__ = ["Evaluation", "ImageScore", "evaluate", "read_samples", "write_results"]


@dataclass(frozen=True)
class ImageScore:
    """The metrics of one image: key, number of valid pixels, name -> value."""

    key: str
    valid_pixels: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Evaluation:
    """One model under one protocol.

    Attributes:
        model: how the model is called in the table.
        protocol: the protocol's name.
        images: a score per image that had valid pixels.
        skipped: keys of images without a valid pixel, or which could not be read.
    """

    model: str
    protocol: str
    images: list[ImageScore]
    skipped: list[str] = field(default_factory=list)

    @property
    def mean(self) -> dict[str, float]:
        """Mean over images, each image counting once."""
        return {name: math.fsum(i.metrics[name] for i in self.images) / len(self.images) for name in METRICS}


def evaluate(
    model: DepthModel,
    dataset: Dataset,
    protocol: Protocol,
    *,
    name: str,
    batch_size: int = 8,
    limit: int | None = None,
    progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Measure one model.

    The model sees each image through its own resizing policy (``predict``) and answers at the truth's size. Consecutive images
    of one size share a forward pass; the scores do not depend on ``batch_size`` beyond float rounding in the model.

    Args:
        model: any depth model whose space the protocol can use.
        dataset: labelled samples in metric space.
        protocol: what is measured.
        name: the model's name in the table.
        batch_size: images per forward pass.
        limit: only the first so many samples.
        progress: called with the number of images done after each batch.

    Raises:
        DataError: no image of the dataset could be scored, or its labels are not metric.
        dadkit.spaces.SpaceError: the model's space does not fit the protocol's.
    """
    skipped: list[str] = []
    scores: list[ImageScore] = []
    for samples in _batches(read_samples(dataset, limit, skipped), batch_size):
        images = [sample.image.float() / 255 for sample in samples]
        prediction = model.predict(images, batch_size=batch_size)
        device = prediction.depth.device
        depth = torch.stack([_metric_depth(sample) for sample in samples]).to(device)
        valid = torch.stack([_valid(sample) for sample in samples]).to(device)
        scored = protocol.score(prediction, depth, valid)
        table = {metric: values.tolist() for metric, values in scored.metrics.items()}
        for index, (sample, pixels) in enumerate(zip(samples, scored.valid_pixels.tolist(), strict=True)):
            if pixels == 0:
                skipped.append(sample.key)
                continue
            scores.append(ImageScore(sample.key, pixels, {metric: table[metric][index] for metric in METRICS}))
        if progress is not None:
            progress(len(scores) + len(skipped))
    if not scores:
        raise DataError(
            f"evaluation of '{name}' under '{protocol.name}': none of {len(skipped)} images has a valid pixel of true depth"
        )
    return Evaluation(name, protocol.name, scores, skipped)


def read_samples(dataset: Dataset, limit: int | None, skipped: list[str]) -> Iterator[Sample]:
    """The first ``limit`` samples; the names of those that cannot be read are appended to ``skipped``."""
    for index in range(len(dataset) if limit is None else min(limit, len(dataset))):
        try:
            yield dataset[index]
        except SampleError as error:
            skipped.append(str(error))


def write_results(folder: Path, evaluations: list[Evaluation], protocol: Protocol) -> None:
    """Write ``evaluation.json`` (means, protocol, counts) and ``evaluation.csv`` (a row per model and image)."""
    summary = {
        "protocol": protocol.model_dump(mode="json"),
        "models": [{"model": e.model, "images": len(e.images), "skipped": e.skipped, "mean": e.mean} for e in evaluations],
    }
    write_text(folder / "evaluation.json", json.dumps(summary, indent=2) + "\n")
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["protocol", "model", "key", "valid_pixels", *METRICS])
    for e in evaluations:
        writer.writerows([protocol.name, e.model, i.key, i.valid_pixels, *(i.metrics[m] for m in METRICS)] for i in e.images)
    write_text(folder / "evaluation.csv", text.getvalue())


def _batches(samples: Iterator[Sample], size: int) -> Iterator[list[Sample]]:
    """Consecutive samples of one image size, at most ``size`` of them."""
    batch: list[Sample] = []
    for sample in samples:
        if batch and (len(batch) == size or sample.image.shape != batch[0].image.shape):
            yield batch
            batch = []
        batch.append(sample)
    if batch:
        yield batch


def _metric_depth(sample: Sample) -> torch.Tensor:
    if sample.depth is None or sample.space is not Space.METRIC:
        have = "no depth" if sample.depth is None else f"depth in space '{sample.space}'"
        raise DataError(f"evaluation needs true metric depth; sample '{sample.key}' has {have}. Choose a labelled dataset.")
    return sample.depth


def _valid(sample: Sample) -> torch.Tensor:
    assert sample.depth is not None
    return torch.ones_like(sample.depth, dtype=torch.bool) if sample.valid is None else sample.valid
