"""One page of pictures about a set of labels: the best and the worst by each score, and near duplicates."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from jinja2 import Environment
from PIL import Image

from dadkit import pictures
from dadkit.data.labels import Labels
from dadkit.errors import SampleError
from dadkit.files import write_text
from dadkit.labelling.scores import duplicates

__all__ = ["write_page"]

_MOST = 20_000  # labels that are looked at, evenly drawn
_SHOWN = 6
_SIDE = 230

_PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>Labels</title>
<style>body{font:15px/1.4 system-ui,sans-serif;margin:2em auto;max-width:1500px;padding:0 1em}
figure{display:inline-block;margin:4px;vertical-align:top;width:{{ side }}px}
figcaption{font-size:12px;color:#555;overflow-wrap:anywhere}h2{margin-top:1.5em}</style>
<h1>{{ count }} labels in {{ root }}</h1><p>{{ seen }} of them were looked at. A score says nothing about truth; nothing is
left out of training unless a configuration says so.</p>
{% for title, figures in groups %}<h2>{{ title }}</h2>
{% for caption, picture in figures %}<figure><img src="data:image/jpeg;base64,{{ picture }}" alt="">
<figcaption>{{ caption }}</figcaption></figure>
{% else %}<p>none</p>{% endfor %}{% endfor %}</html>
"""


def write_page(root: str | Path, file: Path) -> None:
    """Write the page.

    Args:
        root: the labels.
        file: the HTML file, which holds its pictures.

    Raises:
        dadkit.errors.DataError: there are no labels.
    """
    labels = Labels(root)
    chosen = np.unique(np.linspace(0, len(labels) - 1, min(len(labels), _MOST)).astype(np.int64))
    table = [labels.scores(int(index)) for index in chosen]
    groups: list[tuple[str, list[tuple[str, str]]]] = []
    for name in ("flip", "agree", "tv", "range", "sharpness"):
        if name not in table[0]:
            continue
        values = np.array([row[name] for row in table], dtype=np.float64)
        order = np.argsort(values)
        order = order[np.isfinite(values[order])]
        for title, places in (("lowest", order[:_SHOWN]), ("highest", order[::-1][:_SHOWN])):
            shown = [(int(chosen[place]), f"{values[place]:.3g}") for place in places]
            groups.append((f"{name}, {title}", list(_figures(labels, shown))))
    original = duplicates([int(row["dhash"]) for row in table])
    copies = np.flatnonzero(original != np.arange(len(original)))
    pairs = [(int(chosen[p]), text) for copy in copies[:_SHOWN] for p, text in ((original[copy], "first"), (copy, "like it"))]
    groups.append((f"near duplicates: {len(copies)}", list(_figures(labels, pairs))))
    page = Environment(autoescape=True).from_string(_PAGE)
    write_text(file, page.render(root=root, count=len(labels), seen=len(chosen), side=_SIDE, groups=groups))


def _figures(labels: Labels, shown: Iterable[tuple[int, str]]) -> Iterable[tuple[str, str]]:
    for index, text in shown:
        try:
            sample = labels[index]
        except SampleError:
            continue
        assert sample.depth is not None
        colored = pictures.colorize(sample.depth, space=labels.space, valid=sample.valid)
        height = max(1, round(sample.image.shape[-2] * _SIDE / sample.image.shape[-1]))  # of the map too
        picture = np.concatenate([_thumbnail(pictures.to_uint8(sample.image), height), _thumbnail(colored, height)])
        jpeg = io.BytesIO()
        Image.fromarray(picture).save(jpeg, "JPEG", quality=85)
        yield f"{text} {sample.key}", base64.b64encode(jpeg.getvalue()).decode()


def _thumbnail(pixels: np.ndarray, height: int) -> np.ndarray:
    return np.asarray(Image.fromarray(pixels).resize((_SIDE, height)))
