"""The files of an evaluation: a summary in JSON, a row per model and image in CSV."""

from __future__ import annotations

import csv
import io
import itertools
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dadkit.evaluation.evaluate import Evaluation
from dadkit.evaluation.intervals import bootstrap_mean, compare
from dadkit.evaluation.protocol import Protocol
from dadkit.files import write_text

__all__ = ["comparisons", "summarise", "write_results"]


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
