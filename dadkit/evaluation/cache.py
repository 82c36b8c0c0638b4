"""Rows that are already measured, so that an interrupted evaluation goes on where it was.

One JSON line an image, in a file that is named by a hash of everything a row depends on: the model's weights and settings, the
protocol's values, the dataset and its options, dadkit's version. Several processes write files of their own beside it.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch

from dadkit._version import __version__
from dadkit.errors import DadkitError
from dadkit.evaluation.protocol import Protocol
from dadkit.interfaces import DepthModel

__all__ = ["Row", "RowCache", "cache_key", "fingerprint"]


@dataclass(frozen=True)
class Row:
    """What was found out about sample ``index``.

    Attributes:
        index: place in the dataset.
        key: the sample's key; for one that was skipped the reason too.
        pixels: how many pixels (or pairs of points) were measured.
        metrics: name -> value, empty unless scored.
        state: ``scored``; ``skipped``: unreadable or too few valid pixels; ``failed``: the model's answer was not finite.
        camera: where the picture's camera came from, see :class:`dadkit.evaluation.evaluate.ImageScore`.
        reversed: whether the alignment had to turn the map over, see there.
    """

    index: int
    key: str
    pixels: int
    metrics: Mapping[str, float]
    state: Literal["scored", "skipped", "failed"]
    camera: str = ""
    reversed: bool = False


class RowCache:
    """The rows of one model under one protocol, on disk.

    Args:
        folder: the folder of the files.
        key: of :func:`cache_key`.
        part: this process's number; each writes a file of its own, all are read.
    """

    def __init__(self, folder: Path, key: str, part: int = 0) -> None:
        self.folder, self.key = folder, key
        self._path = folder / f"{key}.{part}.jsonl"

    def read(self) -> list[Row]:
        """Returns all rows of all parts; a line that a killed process left unfinished is passed over."""
        rows: dict[int, Row] = {}
        for path in sorted(self.folder.glob(f"{self.key}.*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    row = Row(**json.loads(line))
                except (ValueError, TypeError):
                    continue
                rows[row.index] = row
        return [rows[index] for index in sorted(rows)]

    def append(self, rows: Iterable[Row]) -> None:
        """Add rows, and see to it that they are on the disk."""
        text = "".join(json.dumps(asdict(row)) + "\n" for row in rows)
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            with self._path.open("ab+") as handle:
                if handle.tell() and not _ends_with_newline(handle):
                    text = "\n" + text  # after a line that was cut off
                handle.write(text.encode())
                handle.flush()
                os.fsync(handle.fileno())
        except OSError as error:
            raise DadkitError(f"cannot write {self._path}: {error.strerror or error}") from error

    def clear(self) -> None:
        """Forget all rows."""
        for path in self.folder.glob(f"{self.key}.*.jsonl"):
            path.unlink()


def _ends_with_newline(handle: Any) -> bool:
    handle.seek(-1, os.SEEK_END)
    return bool(handle.read(1) == b"\n")


def fingerprint(model: DepthModel) -> str:
    """Returns a hash of a model: class, specification, plain settings of every submodule, and all weights."""
    digest = hashlib.sha256(f"{type(model).__module__}.{type(model).__qualname__} {model.spec!r}".encode())
    for name, module in model.named_modules():
        plain = {k: v for k, v in sorted(vars(module).items()) if isinstance(v, str | int | float | tuple) and k != "training"}
        digest.update(f"{name} {type(module).__qualname__} {plain!r}".encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def cache_key(model: str, protocol: Protocol, dataset: str, options: Mapping[str, Any]) -> str:
    """Name of the file for a model's fingerprint, a protocol's values and a dataset with its options."""
    values = {key: value for key, value in protocol.plain().items() if key not in ("summary", "source", "datasets")}
    parts = [__version__, model, values, dataset, dict(options)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:24]
