"""A run's page: evaluation table, pictures, curves of each stage, versions and licences, the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from dadkit.report.curves import curves
from dadkit.report.parts import definitions, figure_of_file, read_json, write_page
from dadkit.report.results import scores_table

__all__ = ["write_report"]


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder from what lies there.

    Parts that are missing (no evaluation, no samples yet) are left out, so a report of an unfinished run can be made as well.

    Args:
        folder: a run's folder with ``config.yaml`` and ``run.json``.

    Returns:
        The path of the page. It refers to no other file and loads nothing from the network.
    """
    metadata = read_json(folder / "run.json") or {}
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    lines = _lines(folder / "metrics.jsonl")
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    return write_page(
        folder / "report.html",
        title=f"dadkit run: {folder.name}",
        subtitle=f"{len(stages)} stage{'s' if len(stages) != 1 else ''}: {', '.join(stages)}",
        body=[
            _warnings(metadata),
            _evaluation(folder),
            *(_stage(folder, name, [line for line in lines if line["stage"] == name]) for name in stages),
            f"<h2>Versions, licences, environment</h2>{definitions(metadata)}",
            "<h2>Configuration</h2><details><summary>The resolved configuration; it trains again as it is</summary>"
            f"<pre>{escape(config)}</pre></details>",
        ],
    )


def _evaluation(folder: Path) -> str:
    results = read_json(folder / "evaluation.json")
    if results is None:
        return ""
    protocol = results["protocol"]
    words = (
        f"Protocol <b>{escape(protocol['name'])}</b>: {escape(protocol['summary'])} "
        f"Depths from {protocol['min_depth']} to {protocol['max_depth']} m; means over images."
    )
    strips = figure_of_file(
        folder / "evaluation.jpg",
        "From the student's best to its worst image. Depth is aligned and coloured on the truth's limits, near is warm; "
        "errors are relative, black = 0, bright = 0.3 or more.",
    )
    return f"<h2>Evaluation</h2><p>{words}</p>{scores_table(results)}{strips}"


def _stage(folder: Path, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    samples = sorted((folder / "stages" / name / "samples").glob("*.jpg"))
    shown = samples[-1:] if len(samples) < 2 else [samples[0], samples[-1]]
    grids = "".join(figure_of_file(path, f"{path.stem}: view with patches, label, student, difference") for path in shown)
    return f"<h2>Stage {escape(name)}</h2>{curves(lines)}{grids}"


def _warnings(metadata: Mapping[str, Any]) -> str:
    found = [str(item) for stage in _stages(metadata) for item in stage.get("unsound", [])]
    if not found:
        return ""
    return f'<p class="warning">Trained with allow_unsound: {escape("; ".join(found))}</p>'


def _stages(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    stages = metadata.get("stages", [])
    return list(stages.values()) if isinstance(stages, Mapping) else list(stages)


def _lines(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        return []
    lines = []
    for text in path.read_text(encoding="utf-8").splitlines():
        try:
            lines.append(json.loads(text))
        except json.JSONDecodeError:  # the last line of a run that died while writing it
            continue
    return lines
