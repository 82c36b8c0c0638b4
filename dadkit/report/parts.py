"""Pieces that every report is made of: the page, pictures inside it, tables, lists of facts."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dadkit.files import write_text

__all__ = ["definitions", "figure_of_file", "figure_of_picture", "read_json", "svg", "table", "write_page"]


def write_page(path: Path, *, title: str, subtitle: str, body: Iterable[str]) -> Path:
    """Write one self-contained page; it refers to no other file and loads nothing from the network.

    Args:
        path: where to.
        title, subtitle: plain text.
        body: HTML of the sections; empty ones are left out.
    """
    text = Template((files("dadkit.report") / "page.html").read_text(encoding="utf-8")).substitute(
        title=escape(title), subtitle=escape(subtitle), body="\n".join(part for part in body if part)
    )
    write_text(path, text)
    return path


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, best: Iterable[tuple[int, int]] = (), wide: bool = False
) -> str:
    """A table of plain text; the cells (row, column) in ``best`` are bold; a ``wide`` one has small type and scrolls."""
    bold = set(best)
    head = "".join(f"<th>{escape(heading)}</th>" for heading in headings)
    lines = [
        "".join(f"<td{' class=best' if (y, x) in bold else ''}>{escape(cell)}</td>" for x, cell in enumerate(row))
        for y, row in enumerate(rows)
    ]
    text = f"<table><tr>{head}</tr>\n" + "\n".join(f"<tr>{line}</tr>" for line in lines) + "</table>"
    return f'<div class="wide">{text}</div>' if wide else text


def definitions(value: Any) -> str:
    """Nested data as nested definition lists."""
    if isinstance(value, Mapping):
        items = "".join(f"<dt>{escape(str(key))}</dt><dd>{definitions(item)}</dd>" for key, item in value.items())
        return f"<dl>{items}</dl>" if items else "–"
    if isinstance(value, list):
        return "<br>".join(definitions(item) for item in value) or "–"
    return escape(str(value))


def figure_of_file(path: Path, caption: str) -> str:
    """A JPEG file with its caption, inside the page; empty if there is no such file."""
    return _figure(path.read_bytes(), caption) if path.is_file() else ""


def figure_of_picture(picture: NDArray[np.uint8], caption: str) -> str:
    """An (H, W, 3) picture with its caption, inside the page."""
    data = io.BytesIO()
    Image.fromarray(picture).save(data, "JPEG", quality=90)
    return _figure(data.getvalue(), caption)


def svg(figure: Figure) -> str:
    """A matplotlib figure as an ``<svg>`` element; the same numbers give the same text."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return text.getvalue()[text.getvalue().index("<svg") :]


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _figure(jpeg: bytes, caption: str) -> str:
    data, text = base64.b64encode(jpeg).decode(), escape(caption)
    return f'<figure><img alt="{text}" src="data:image/jpeg;base64,{data}"><figcaption>{text}</figcaption></figure>'
