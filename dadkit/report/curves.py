"""Curves of a stage as inline SVG: sharp at any size, no script, no file beside the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from dadkit.report.parts import svg

__all__ = ["PANELS", "curves"]

PANELS: Mapping[str, tuple[str, ...]] = {
    "losses (unweighted)": ("loss/",),
    "student: raw median and MAD": ("student/median", "student/mad"),
    "student: share of pixels <= 0": ("student/nonpositive",),
    "gradient norm": ("grad_norm",),
    "learning rate": ("lr/",),
    "images per second": ("images_per_s",),
    "share of time waiting for data": ("data_wait",),
    "validation": ("validation/",),
}
"""Title of a panel -> the beginnings of the metrics that it shows."""

_LOG_SCALE = frozenset({"gradient norm"})


def curves(lines: Sequence[Mapping[str, Any]]) -> str:
    """All panels that have data, as one SVG.

    Args:
        lines: the stage's lines of ``metrics.jsonl``: ``step`` and named numbers; null marks a value that was not finite.

    Returns:
        An ``<svg>`` element, or an empty string if there is nothing to draw.
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
    return svg(figure)


def _series(lines: Sequence[Mapping[str, Any]], prefixes: tuple[str, ...]) -> dict[str, tuple[list[int], list[float]]]:
    series: dict[str, tuple[list[int], list[float]]] = {}
    for line in lines:
        for name, value in line.items():
            if name.startswith(prefixes) and isinstance(value, int | float):
                steps, values = series.setdefault(name.split("/")[-1], ([], []))
                steps.append(line["step"])
                values.append(value)
    return series
