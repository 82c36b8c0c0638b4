"""How a report becomes one file: templates that escape what they are given, and pictures and plots inside the page."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure
from numpy.typing import NDArray
from PIL import Image

from dadkit.files import write_text

__all__ = ["Picture", "Table", "picture", "picture_file", "plot", "read_json", "write_page"]


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
    """An (H, W, 3) picture with its caption."""
    data = io.BytesIO()
    Image.fromarray(pixels).save(data, "JPEG", quality=90)
    return _jpeg(data.getvalue(), caption)


def picture_file(path: Path, caption: str) -> Picture | None:
    """A JPEG file with its caption; None if there is no such file."""
    return _jpeg(path.read_bytes(), caption) if path.is_file() else None


def plot(figure: Figure) -> Markup:
    """A matplotlib figure as an ``<svg>`` element; the same numbers give the same text."""
    text = io.StringIO()
    figure.savefig(text, format="svg", metadata={"Date": None})
    return Markup(text.getvalue()[text.getvalue().index("<svg") :])  # matplotlib escapes the text in it


def read_json(path: Path) -> Any:
    """The content of a JSON file, or None if there is none."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None


def _jpeg(data: bytes, caption: str) -> Picture:
    return Picture(f"data:image/jpeg;base64,{base64.b64encode(data).decode()}", caption)
