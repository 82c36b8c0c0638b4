"""Tables that more than one command prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dadkit.evaluation import Evaluation, Protocol

__all__ = ["evaluation_rows"]

_USUAL = ("abs_rel", "delta1", "rmse")


def evaluation_rows(evaluations: Sequence[Evaluation], protocol: Protocol) -> tuple[list[str], list[list[str]]]:
    """Headings and a row per model: the protocol's first metric with its 95 % interval and median, the usual others, how many
    images were measured, skipped and failed, crop, floor, protocol. Everything measured stands in ``evaluation.csv``.
    """
    from dadkit.evaluation.intervals import bootstrap_mean
    from dadkit.report.results import heading

    first = protocol.metrics[0]
    others = [name for name in protocol.metrics[1:] if name in _USUAL] or list(protocol.metrics[1:3])
    headings = ["model", heading(first), "95 %", "median", *map(heading, others), "images", "skipped", "failed"]
    rows = []
    for e in evaluations:
        interval = bootstrap_mean([image.metrics[first] for image in e.images])
        cells = [e.model, f"{e.mean[first]:.4f}", f"{interval.low:.4f}-{interval.high:.4f}", f"{e.median[first]:.4f}"]
        cells += [f"{e.mean[name]:.4f}" for name in others]
        counts = [str(len(found)) if found else "" for found in (e.images, e.skipped, e.failed)]
        rows.append([*cells, *counts, e.crop, e.floor, e.protocol])
    return [*headings, "crop", "floor", "protocol"], rows
