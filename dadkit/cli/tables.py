"""Tables that more than one command prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

if TYPE_CHECKING:
    from dadkit.evaluation import Evaluation

__all__ = ["evaluation_table"]

_COLUMNS = {"abs_rel": "AbsRel ↓", "delta1": "δ1 ↑", "delta2": "δ2 ↑", "delta3": "δ3 ↑", "rmse": "RMSE (m) ↓"}


def evaluation_table(evaluations: Sequence[Evaluation], *, title: str) -> Table:
    """A row per model: the usual five metrics, the number of images, the protocol."""
    table = Table(title=title)
    table.add_column("model")
    for heading in _COLUMNS.values():
        table.add_column(heading, justify="right")
    table.add_column("images", justify="right")
    table.add_column("protocol")
    for evaluation in evaluations:
        mean = evaluation.mean
        values = [f"{mean[name]:.4f}" for name in _COLUMNS]
        table.add_row(evaluation.model, *values, str(len(evaluation.images)), evaluation.protocol)
    return table
