"""All finished tables as plain data: what ``reproduce.json`` holds and the page is written from."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rows import Finished, finished
from table import Row, Table, load_table
from verdict import LEVEL, estimate, judge

from dadkit import __version__

__all__ = ["collect"]

MOST_SEEDS = 100
METRICS = ("abs_rel", "delta1")


def collect(names: Sequence[str]) -> dict[str, Any]:
    """Read the runs below the current folder.

    Args:
        names: of the tables.

    Returns:
        ``about`` (machine, versions), ``tables`` (name -> rows and verdicts) for those with two seeds or more of every row, and
        ``not_run`` (the others' names).
    """
    tables: dict[str, Any] = {}
    for name in names:
        table = load_table(name)
        runs = {row.name: dict(_runs(row)) for row in table.rows.values()}
        seeds = sorted(set.intersection(*(set(found) for found in runs.values())))
        if len(seeds) > 1:
            tables[name] = _summary(table, {row: {seed: runs[row][seed] for seed in seeds} for row in runs}, seeds)
    return {"about": _about(), "tables": tables, "not_run": [name for name in names if name not in tables]}


def _runs(row: Row) -> Iterator[tuple[int, Finished]]:
    for seed in range(MOST_SEEDS):
        found = finished(row, seed)
        if found is not None:
            yield seed, found


def _summary(table: Table, runs: dict[str, dict[int, Finished]], seeds: list[int]) -> dict[str, Any]:
    values = {
        metric: {name: {s: _line(run, table.rows[name])[metric] for s, run in found.items()} for name, found in runs.items()}
        for metric in METRICS
    }
    any_run = next(iter(next(iter(runs.values())).values()))
    judged = [judge(better, worse, values["abs_rel"]) for better, worse in table.orderings]
    return {
        "title": table.title,
        "datasets": list(table.datasets),
        "protocol": any_run.protocol,
        "images": any_run.images,
        "seeds": seeds,
        "level": LEVEL,
        "rows": {name: _row(row, runs[name], values) for name, row in table.rows.items()},
        "orderings": [asdict(verdict) for verdict in judged if verdict is not None],
    }


def _row(row: Row, runs: dict[int, Finished], values: dict[str, dict[str, dict[int, float]]]) -> dict[str, Any]:
    return {
        "published": list(row.published),
        "runs_of": "/".join(row.same_as),
        "recipe": row.recipe,
        "changes": list(row.changes),
        "model": row.model,
        **{metric: asdict(estimate(list(values[metric][row.name].values()))) for metric in METRICS},
        "runs": {
            seed: {
                **{metric: values[metric][row.name][seed] for metric in METRICS},
                "config_hash": run.config_hash,
                "built_on": run.built_on,
                "seconds": run.seconds,
            }
            for seed, run in runs.items()
        },
    }


def _line(run: Finished, row: Row) -> dict[str, float]:
    """The line of the evaluation that the row means."""
    return run.metrics[row.model]


def _about() -> dict[str, Any]:
    teachers = sorted(path.parent.name for path in Path("runs").glob("*/reproduce.json") if "-s" not in path.parent.name)
    return {
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dadkit": __version__,
        "teachers": {name: found for name in teachers if (found := _teacher(name)) is not None},
    }


def _teacher(name: str) -> dict[str, Any] | None:
    """A teacher's own figures, beside those of trivial answers where they were taken."""
    path = Path("runs", name)
    note = json.loads((path / "reproduce.json").read_text())
    models = json.loads((path / "evaluation.json").read_text())["models"]
    return {"seconds": note["seconds"], "abs_rel": {model["model"]: model["mean"]["abs_rel"] for model in models}}
