"""A run's page: evaluation table, pictures, curves of each stage, versions and licences, the configuration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup
from matplotlib.figure import Figure

from dadkit.report.page import picture_file, plot, read_json, scores_table, write_page

__all__ = ["PANELS", "write_report"]

PANELS: Mapping[str, tuple[str, ...]] = {
    "losses (unweighted)": ("loss/",),
    "student: raw median and MAD": ("student/median", "student/mad"),
    "student: share of pixels <= 0": ("student/nonpositive",),
    "labels: share of the loss on the nearest 1 %": ("student/near_share",),
    "gradient norm": ("grad_norm",),
    "learning rate": ("lr/",),
    "images per second": ("images_per_s",),
    "share of time waiting for data": ("data_wait",),
    "validation": ("validation/",),
}
"""Title of a panel -> the beginnings of the metrics that it shows."""

_LOG_SCALE = frozenset({"gradient norm"})


def write_report(folder: Path) -> Path:
    """Write ``report.html`` into a run's folder from what lies there.

    Parts that are missing (no evaluation, no samples yet) are left out, so a report of an unfinished run can be made as well.

    Args:
        folder: a run's folder with ``config.yaml`` and ``run.json``.

    Returns:
        The path of the page. It refers to no other file and loads nothing from the network.
    """
    metadata = read_json(folder / "run.json") or {}
    further = sorted(path.parent for path in (folder / "evaluations").glob("*/evaluation.json"))
    lines = _lines(folder / "metrics.jsonl")
    stages = list(dict.fromkeys(line["stage"] for line in lines))
    return write_page(
        folder / "report.html",
        "run.html",
        title=f"dadkit run: {folder.name}",
        subtitle=f"{len(stages)} stage{'s' if len(stages) != 1 else ''}: {', '.join(stages)}",
        unsound=[item for stage in metadata.get("stages", []) for item in stage.get("unsound", [])],
        conversions=[item for stage in metadata.get("stages", []) for item in stage.get("conversions", [])],
        evaluations=[shown for place in (folder, *further) if (shown := _evaluation(place)) is not None],
        stages=[_stage(folder, name, [line for line in lines if line["stage"] == name]) for name in stages],
        metadata=metadata,
        config=(folder / "config.yaml").read_text(encoding="utf-8"),
    )


def _evaluation(folder: Path) -> dict[str, Any] | None:
    """Returns what the page shows of an evaluation, None if there is none in the folder."""
    results = read_json(folder / "evaluation.json")
    if results is None:
        return None
    strips = picture_file(
        folder / "evaluation.jpg",
        "From the student's best to its worst image. Depth is aligned and coloured on the truth's limits, near is warm; "
        "errors are relative, black = 0, bright = 0.3 or more.",
    )
    return {"results": results, "scores": scores_table(results), "strips": strips}


def _stage(folder: Path, name: str, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Returns what the page shows of a stage: its curves, and its first and last grid of samples."""
    samples = sorted((folder / "stages" / name / "samples").glob("*.jpg"))
    shown = samples[-1:] if len(samples) < 2 else [samples[0], samples[-1]]
    grids = [picture_file(path, f"{path.stem}: view with patches, label, student, difference") for path in shown]
    return {"name": name, "curves": _curves(lines), "samples": grids}


def _curves(lines: Sequence[Mapping[str, Any]]) -> Markup | str:
    """Returns all panels that have data, as one SVG.

    Args:
        lines: the stage's lines of ``metrics.jsonl``: ``step`` and named numbers; null marks a value that was not finite.

    Returns:
        An ``<svg>`` element: sharp at any size, no script. Or an empty string if there is nothing to draw.
    """
    panels = {title: _series(lines, prefixes) for title, prefixes in PANELS.items()}
    panels = {title: series for title, series in panels.items() if series}
    if not panels:
        return ""
    columns = 2
    rows = -(-len(panels) // columns)
    figure = Figure(figsize=(10, 2.6 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis, (title, series) in zip(axes, panels.items(), strict=False):
        for name, (steps, values) in series.items():
            axis.plot(steps, values, label=name, linewidth=1.2, marker="." if len(steps) < 3 else "")
        axis.set_title(title, fontsize=9)
        axis.tick_params(labelsize=7)
        axis.grid(visible=True, alpha=0.25)
        if title in _LOG_SCALE and all(value > 0 for _, values in series.values() for value in values):
            axis.set_yscale("log")
        if len(series) > 1:
            axis.legend(fontsize=7)
    for axis in axes[len(panels) :]:
        axis.axis("off")
    return plot(figure)


def _series(lines: Sequence[Mapping[str, Any]], prefixes: tuple[str, ...]) -> dict[str, tuple[list[int], list[float]]]:
    series: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith(prefixes) and isinstance(value, int | float):
                steps, values = series.setdefault(name.split("/")[-1], ([], []))
                steps.append(line["step"])
                values.append(value)
    return series


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
