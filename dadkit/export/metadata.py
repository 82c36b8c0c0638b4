"""What a written file says about itself: one JSON text under the key ``dadkit``."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dadkit._version import __version__
from dadkit.interfaces import DepthModel, ExportRequest
from dadkit.loading import LoadError, read_card, result_path

__all__ = ["KEPT", "KEY", "append", "appended", "describe", "origin", "read", "written"]

KEY = "dadkit"
KEPT = "kept_in_float"
"""Key of a quantised file's nodes that stay in float: [[node, error], …] as JSON, largest error first."""
FORMAT = 1
"""Raised when an old reader would misunderstand a file."""


def describe(model: DepthModel, request: ExportRequest, source: Mapping[str, Any]) -> dict[str, Any]:
    """Returns what a reader has to know.

    Returns:
        ``format``; ``writer``, the version of dadkit; ``name``; ``space`` and ``range`` of the answers; ``size_multiple``;
        ``size``, [height, width] or null for any; ``input`` and ``precision`` as in :class:`ExportRequest`; ``native``, the
        resizing policy; ``align_corners`` and ``upsampling``, how an answer is brought to an image's size; ``license`` of the
        weights; ``source``, where they come from. Normalisation is part of the graph, so mean and deviation are not told.
    """
    spec = model.spec
    return {
        "format": FORMAT,
        "writer": f"dadkit {__version__}",
        "name": spec.name,
        "space": str(spec.space),
        "range": list(spec.range),
        "size_multiple": spec.size_multiple,
        "size": list(request.size) if request.size else None,
        "input": request.input,
        "precision": request.precision,
        "native": asdict(spec.native),
        "align_corners": spec.align_corners,
        "upsampling": spec.upsampling,
        "license": spec.license,
        "source": dict(source),
    }


def origin(source: str | Path) -> dict[str, Any]:
    """Returns where weights come from: of a trained result its component, versions, run, step and configuration, without any
    path.
    """
    path = Path(source).expanduser()
    if not path.exists():
        return {"component": str(source)}
    try:
        card = read_card(result_path(path))
    except LoadError:
        return {"file": path.name}
    return {
        "component": card.component,
        "versions": dict(card.versions),
        "run": Path(card.run).name,
        "stage": card.stage,
        "step": card.step,
        "config_hash": card.config_hash,
        "licenses": list(card.licenses),
    }


def written(facts: Mapping[str, Any]) -> dict[str, str]:
    """As files store it."""
    return {KEY: json.dumps(facts, sort_keys=True)}


def read(metadata: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns the inverse of :func:`written`; None for a file of another writer."""
    text = metadata.get(KEY)
    return None if text is None else json.loads(text)


_MEMBER = "metadata.json"


def append(path: Path, metadata: Mapping[str, str]) -> None:
    """Add ``metadata`` to a flatbuffer, as a zip archive behind its end: readers of the format do not look there."""
    found = {**appended(path), **metadata}
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            end = min(member.header_offset for member in archive.infolist())
        with path.open("r+b") as file:
            file.truncate(end)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(_MEMBER, json.dumps(found))


def appended(path: Path) -> dict[str, str]:
    """Returns what :func:`append` added; empty where there is nothing."""
    if not zipfile.is_zipfile(path):
        return {}
    with zipfile.ZipFile(path) as archive:
        found: dict[str, str] = json.loads(archive.read(_MEMBER))
    return found
