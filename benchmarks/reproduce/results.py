"""All finished tables as plain data: what ``reproduce.json`` holds and the page is written from."""

from __future__ import annotations

import json
import os
import platform
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

import torch
from rows import Finished, finished, judged, read
from table import Row, Setting, Table, load_table
from verdict import LEVEL, estimate, judge

from dadkit import __version__

__all__ = ["collect"]

METRICS = ("abs_rel", "delta1")


def collect(setting: Setting, names: Sequence[str]) -> dict[str, Any]:
    """Read the runs below the current folder.

    Args:
        setting: whose runs they are.
        names: of the tables.

    Returns:
        ``about`` (machine, versions), ``tables`` (name -> rows and verdicts) for those of which at least one ordering can be
        judged, ``not_run`` (the others' names) and ``incomplete`` (those that lack orderings). A row needs two seeds.
    """
    tables: dict[str, Any] = {}
    incomplete = []
    for name in names:
        table = load_table(name, setting)
        runs = {row.name: found for row in table.rows.values() if len(found := finished(row)) > 1}
        summary = _summary(table, runs) if runs else {"orderings": []}
        if summary["orderings"]:
            tables[name] = summary
            if len(summary["orderings"]) < len(table.orderings):
                incomplete.append(name)
    not_run = [name for name in names if name not in tables]
    return {"about": _about(), "tables": tables, "incomplete": incomplete, "not_run": not_run}


def _summary(table: Table, runs: dict[str, dict[int, Finished]]) -> dict[str, Any]:
    first = next(iter(next(iter(runs.values())).values()))
    kind, *others = first.metrics
    images, sets = first.images[kind]
    found: dict[str, Any] = {
        "title": table.title,
        "datasets": list(table.datasets),
        "published_orderings": len(table.orderings),
        "protocol": first.protocol,
        "images": images,
        "level": LEVEL,
        "rows": {name: _row(row, runs.get(name, {})) for name, row in table.rows.items()},
        "orderings": _judge(table, runs, kind),
    }
    if sets > 1 or others:
        found["kinds"] = {name: {"images": number, "sets": sets} for name, (number, sets) in first.images.items()}
        found["also"] = {other: _judge(table, runs, other) for other in others}
    return found


def _judge(table: Table, runs: dict[str, dict[int, Finished]], kind: str) -> list[dict[str, Any]]:
    values = {name: judged(table.rows[name], found, kind=kind) for name, found in runs.items()}
    verdicts = [judge(better, worse, values) for better, worse in table.orderings]
    return [asdict(verdict) for verdict in verdicts if verdict is not None and verdict.difference.seeds > 1]


def _row(row: Row, runs: dict[int, Finished]) -> dict[str, Any]:
    """A row; without measured values, where it was not run."""
    values = {metric: judged(row, runs, metric) for metric in METRICS}
    others = list(next(iter(runs.values())).metrics)[1:] if runs else []
    also = {kind: judged(row, runs, kind=kind) for kind in others}
    return {
        "published": list(row.published),
        "runs_of": "/".join(row.same_as),
        "recipe": row.recipe,
        "changes": list(row.changes),
        "model": row.model,
        **{metric: asdict(estimate(list(found.values()))) for metric, found in values.items() if found},
        **({"also": {kind: asdict(estimate(list(found.values()))) for kind, found in also.items()}} if also else {}),
        "runs": {
            str(seed): {
                **{metric: found[seed] for metric, found in values.items()},
                **({"also": {kind: found[seed] for kind, found in also.items()}} if also else {}),
                "config_hash": run.config_hash,
                "built_on": run.built_on,
                "seconds": run.seconds,
            }
            for seed, run in runs.items()
        },
    }


def _about() -> dict[str, Any]:
    names = sorted(path.parent.name for path in Path("runs").glob("*/reproduce.json"))
    return {
        "date": date.today().isoformat(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "dadkit": __version__,
        "teachers": {name: _teacher(name) for name in names if not _is_row(name)},
        "beside": _beside([name for name in names if _is_row(name)]),
    }


def _is_row(name: str) -> bool:
    return re.search(r"-s\d+$", name) is not None


def _beside(names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Kind of sets -> line -> AbsRel of all but the student, from the first row's run that measured trivial answers."""
    for name in names:
        found = read(Path("runs", name)).metrics
        if any("vertical ramp" in lines for lines in found.values()):
            return {
                kind: {line: values["abs_rel"] for line, values in lines.items() if line != "student"}
                for kind, lines in found.items()
            }
    return {}


def _teacher(name: str) -> dict[str, Any]:
    """A teacher's own figures, beside those of trivial answers where they were taken."""
    path = Path("runs", name)
    note = json.loads((path / "reproduce.json").read_text())
    models = json.loads((path / "evaluation.json").read_text())["models"]
    return {"seconds": note["seconds"], "abs_rel": {model["model"]: model["mean"]["abs_rel"] for model in models}}
