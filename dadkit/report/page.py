"""The page: evaluation table, pictures, curves of each stage, versions and licences, the configuration."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from dadkit.evaluation.metrics import HIGHER_IS_BETTER
from dadkit.files import write_text
from dadkit.report.curves import curves

__all__ = ["write_report"]

_COLUMNS = {"abs_rel": "AbsRel ↓", "delta1": "δ1 ↑", "delta2": "δ2 ↑", "delta3": "δ3 ↑", "rmse": "RMSE (m) ↓"}


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder from what lies there.

    Parts that are missing (no evaluation, no samples yet) are left out, so a report of an unfinished run can be made as well.

    Args:
        folder: a run's folder with ``config.yaml`` and ``run.json``.

    Returns:
        The path of the page. It refers to no other file and loads nothing from the network.
    """
    metadata = _json(folder / "run.json") or {}
    config = (folder / "config.yaml").read_text(encoding="utf-8")
    lines = _lines(folder / "metrics.jsonl")
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    page = Template((files("dadkit.report") / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(f"dadkit run: {folder.name}"),
        subtitle=escape(f"{len(stages)} stage{'s' if len(stages) != 1 else ''}: {', '.join(stages)}"),
        warnings=_warnings(metadata),
        evaluation=_evaluation(folder),
        stages="\n".join(_stage(folder, name, [line for line in lines if line["stage"] == name]) for name in stages),
        metadata=_definitions(metadata),
        config=escape(config),
    )
    write_text(folder / "report.html", page)
    return folder / "report.html"


def evaluation_rows(models: Sequence[Mapping[str, Any]]) -> str:
    """Table rows of an evaluation; the best *learnt or given* value of each column is bold."""
    pick = {name: (max if name in HIGHER_IS_BETTER else min) for name in _COLUMNS}
    best = {name: pick[name](model["mean"][name] for model in models) for name in _COLUMNS}
    rows = []
    for model in models:
        cells = "".join(
            f"<td{' class=best' if model['mean'][name] == best[name] else ''}>{model['mean'][name]:.4f}</td>"
            for name in _COLUMNS
        )
        rows.append(
            f"<tr><td>{escape(model['model'])}</td>{cells}<td>{model['images']}</td><td>{len(model['skipped'])}</td></tr>"
        )
    return "\n".join(rows)


def _evaluation(folder: Path) -> str:
    results = _json(folder / "evaluation.json")
    if results is None:
        return ""
    protocol = results["protocol"]
    heads = "".join(f"<th>{heading}</th>" for heading in ["model", *_COLUMNS.values(), "images", "skipped"])
    words = (
        f"Protocol <b>{escape(protocol['name'])}</b>: {escape(protocol['summary'])} "
        f"Depths from {protocol['min_depth']} to {protocol['max_depth']} m; means over images."
    )
    strips = _figure(
        folder / "evaluation.jpg",
        "From the student's best to its worst image. Depth is aligned and coloured on the truth's limits, near is warm; "
        "errors are relative, black = 0, bright = 0.3 or more.",
    )
    return f"<h2>Evaluation</h2><p>{words}</p><table><tr>{heads}</tr>\n{evaluation_rows(results['models'])}</table>{strips}"


def _stage(folder: Path, name: str, lines: Sequence[Mapping[str, Any]]) -> str:
    samples = sorted((folder / "stages" / name / "samples").glob("*.jpg"))
    shown = samples[-1:] if len(samples) < 2 else [samples[0], samples[-1]]
    grids = "".join(_figure(path, f"{path.stem}: view with patches, label, student, difference") for path in shown)
    return f"<h2>Stage {escape(name)}</h2>{curves(lines)}{grids}"


def _warnings(metadata: Mapping[str, Any]) -> str:
    found = [str(item) for stage in _stages(metadata) for item in stage.get("unsound", [])]
    if not found:
        return ""
    return f'<p class="warning">Trained with allow_unsound: {escape("; ".join(found))}</p>'


def _stages(metadata: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    stages = metadata.get("stages", [])
    return list(stages.values()) if isinstance(stages, Mapping) else list(stages)


def _definitions(value: Any) -> str:
    """Nested metadata as nested definition lists."""
    if isinstance(value, Mapping):
        items = "".join(f"<dt>{escape(str(key))}</dt><dd>{_definitions(item)}</dd>" for key, item in value.items())
        return f"<dl>{items}</dl>" if items else "–"
    if isinstance(value, list):
        return "<br>".join(_definitions(item) for item in value) or "–"
    return escape(str(value))


def _figure(path: Path, caption: str) -> str:
    if not path.is_file():
        return ""
    data = base64.b64encode(path.read_bytes()).decode()
    text = escape(caption)
    return f'<figure><img alt="{text}" src="data:image/jpeg;base64,{data}"><figcaption>{text}</figcaption></figure>'


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


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
