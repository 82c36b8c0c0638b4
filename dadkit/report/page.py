"""How a report becomes one file: templates that escape what they are given; pictures, plots and tables inside the page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dadkit.evaluation.metrics import HIGHER_IS_BETTER, ORDINAL_METRICS, find_metric
from dadkit.files import write_text

__all__ = [
    "Picture",
    "Table",
    "comparison_table",
    "heading",
    "higher_is_better",
    "picture",
    "picture_file",
    "plot",
    "read_json",
    "scores_table",
    "write_page",
]


@dataclass(frozen=True)
class Table:
    """A table of plain text.

    Attributes:
        headings: of the columns.
        rows: the cells.
        best: the cells (row, column) that are bold.
        wide: True for small type and a scroll bar.
    """

    headings: Sequence[str]
    rows: Sequence[Sequence[str]]
    best: Collection[tuple[int, int]] = ()
    wide: bool = False


@dataclass(frozen=True)
class Picture:
    """A picture inside the page.

    Attributes:
        source: a ``data:`` address that holds it.
        caption: plain text.
    """

    source: str
    caption: str


def write_page(path: Path, template: str, **values: Any) -> Path:
    """Write one self-contained page; it refers to no other file and loads nothing from the network.

    Args:
        path: where to.
        template: its name in ``dadkit/report/templates``.
        values: what the template shows; text is escaped.
    """
    environment = Environment(
        loader=PackageLoader("dadkit.report"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    write_text(path, environment.get_template(template).render(values))
    return path


def picture(pixels: NDArray[np.uint8], caption: str) -> Picture:
    """Returns an (H, W, 3) picture with its caption."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return _jpeg(data.getvalue(), caption)


def picture_file(path: Path, caption: str) -> Picture | None:
    """Returns a JPEG file with its caption; None if there is no such file."""
    return _jpeg(path.read_bytes(), caption) if path.is_file() else None


def plot(figure: Figure) -> Markup:
    """Returns a matplotlib figure as an ``<svg>`` element; the same numbers give the same text."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])  # matplotlib escapes the text in it


def read_json(path: Path) -> Any:
    """Returns the content of a JSON file, or None if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _jpeg(data: bytes, caption: str) -> Picture:
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", caption)


_USUAL = ("abs_rel", "delta1", "delta2", "delta3", "rmse")
_ORDINAL = {"pair_accuracy": "pairs right ↑", "whdr": "WHDR ↓"}


def heading(metric: str) -> str:
    """Returns how a metric is called in a table, with an arrow towards better."""
    return _ORDINAL[metric] if metric in ORDINAL_METRICS else find_metric(metric).heading


def higher_is_better(metric: str) -> bool:
    """Returns the direction of a metric."""
    return metric in HIGHER_IS_BETTER or (metric not in ORDINAL_METRICS and find_metric(metric).higher_is_better)


def scores_table(results: Mapping[str, Any], *, detailed: bool = False) -> Table:
    """Returns a row per model, the best value of each column bold.

    Args:
        results: the content of ``evaluation.json``.
        detailed: all metrics of the protocol with the 95 % interval and the median of the first, crop and floor; otherwise the
            usual five, as far as they were measured.
    """
    models: Sequence[Mapping[str, Any]] = results["models"]
    measured = list(models[0]["mean"])
    names = measured if detailed else [name for name in _USUAL if name in measured] or measured
    with_cameras = any(model.get("cameras") for model in models)
    rows = []
    for model in models:
        cells = [model["model"], *(f"{model['mean'][name]:.4f}" for name in names)]
        if detailed:
            interval = model["interval"][names[0]]
            cells += [f"{interval['low']:.4f} – {interval['high']:.4f}", f"{model['median'][names[0]]:.4f}"]
        counts = [model["images"], len(model["skipped"]), len(model.get("failed", []))]
        cells += map(str, counts)
        cells += [in_words(model.get("cameras", {}))] if with_cameras else []
        rows.append([*cells, model["crop"], model["floor"]] if detailed else cells)
    best = []
    for column, name in enumerate(names, start=1):
        values = [model["mean"][name] for model in models]
        wanted = max(values) if higher_is_better(name) else min(values)
        best += [(row, column) for row, value in enumerate(values) if value == wanted]
    first = heading(names[0]).split(" ")[0]
    extra = [f"{first}, 95 %", f"{first}, median"] if detailed else []
    heads = ["model", *map(heading, names), *extra, "images", "skipped", "failed", *(["cameras"] if with_cameras else [])]
    return Table([*heads, *(["crop", "floor"] if detailed else [])], rows, best, wide=detailed)


def in_words(cameras: Mapping[str, int]) -> str:
    """Returns where cameras came from, as ``data 18, exif 2``."""
    return ", ".join(f"{source} {count}" for source, count in cameras.items())


def comparison_table(results: Mapping[str, Any]) -> Table | None:
    """Returns a row for each pair of models, compared on the images that both have; None where there is no pair."""
    rows = []
    for item in results.get("comparisons", []):
        low, high = item["interval"]["low"], item["interval"]["high"]
        lower_wins = not higher_is_better(item["metric"])
        first = item["first_lower"] if lower_wins else item["second_lower"]
        second = item["second_lower"] if lower_wins else item["first_lower"]
        better = "not told apart" if low <= 0 <= high else item["first"] if (high < 0) == lower_wins else item["second"]
        cells = [
            f"{item['first']} − {item['second']}",
            heading(item["metric"]),
            f"{item['difference']:+.4f}",
            f"{low:+.4f} – {high:+.4f}",
            f"{item['p_value']:.4f}",
            f"{100 * first:.0f} % : {100 * second:.0f} %",
            better,
            str(item["images"]),
        ]
        rows.append(cells)
    if not rows:
        return None
    heads = ["models", "metric", "mean difference", "95 %", "p (sign flips)", "images won", "better", "images"]
    return Table(heads, rows, wide=True)
