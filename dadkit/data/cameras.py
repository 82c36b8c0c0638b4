"""Camera matrices that a dataset declares in a file: one for all images, or one per key."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dadkit.errors import DataError

__all__ = ["Cameras"]

_FIELDS = ("fx", "fy", "cx", "cy")


class Cameras:
    """Pinhole cameras of the samples ``keys``, read from the file ``path``.

    ``.txt``: four numbers ``fx fy cx cy`` for all images (``#`` begins a comment line). ``.json``: an object with these four
    keys for all images, or an object of such objects by sample key. Numbers are pixels of the upright image, with pixel centres
    at half integers: cx = W/2 is the middle. If your file counts from the centre of the first pixel, add 0.5 to cx and cy.

    Raises:
        DataError: the file cannot be read or does not hold what is described above for every key.
    """

    def __init__(self, path: Path, keys: Iterable[str]) -> None:
        self._path = path
        self._shared: Tensor | None = None
        self._by_key: dict[str, Tensor] = {}
        try:
            text = path.read_text(encoding="utf-8")
            content = json.loads(text) if path.suffix.lower() == ".json" else _four_numbers(text)
        except OSError as error:
            raise DataError(f"cannot read the intrinsics {path}: {error.strerror or error}") from error
        except ValueError as error:
            raise DataError(f"the intrinsics {path} hold no four numbers fx fy cx cy: {error}") from error
        if not isinstance(content, dict) or not content:
            raise DataError(f"the intrinsics {path} must be an object with fx, fy, cx, cy, or such objects by key")
        if set(_FIELDS) & set(content):
            self._shared = self._matrix(content)
        else:
            wanted = list(keys)
            missing = [key for key in wanted if key not in content]
            if missing:
                raise DataError(
                    f"the intrinsics {path} hold nothing for {len(missing)} of the {len(wanted)} samples, first {missing[0]!r}"
                )
            self._by_key = {key: self._matrix(content[key]) for key in wanted}

    def __call__(self, key: str) -> Tensor:
        """(3, 3) float32, the camera of the sample ``key``."""
        return self._by_key[key] if self._shared is None else self._shared

    def _matrix(self, fields: Any) -> Tensor:
        try:
            fx, fy, cx, cy = (float(fields[name]) for name in _FIELDS)
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"the intrinsics {self._path} need the numbers fx, fy, cx, cy, got {fields!r}") from error
        if not (all(map(math.isfinite, (fx, fy, cx, cy))) and fx > 0 and fy > 0):
            raise DataError(f"the intrinsics {self._path} need finite numbers with fx, fy > 0, got {fields!r}")
        return torch.tensor([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def _four_numbers(text: str) -> dict[str, float]:
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    numbers = [float(word) for word in " ".join(lines).replace(",", " ").split()]
    if len(numbers) != 4:
        raise ValueError(f"found {len(numbers)} numbers")
    return dict(zip(_FIELDS, numbers, strict=True))
