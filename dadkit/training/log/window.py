"""Sums between two log lines, kept on the device so that no iteration waits for it."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from dadkit.training.distributed import ALONE, Ranks

__all__ = ["Window"]


class Window:
    """What happened since the last log line."""

    def __init__(self) -> None:
        self._begun = time.monotonic()
        self._reset()

    def _reset(self) -> None:
        self._since = time.monotonic()
        self._waited = 0.0
        self._images = 0
        self._teachers: Counter[str] = Counter()
        self._sums: dict[str, Tensor] = {}
        self._counts: dict[str, Tensor] = {}

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts the block's time as waiting for data."""
        begun = time.monotonic()
        yield
        self._waited += time.monotonic() - begun

    def add(self, values: Mapping[str, Tensor], finite: Tensor, *, images: int, teachers: Sequence[str]) -> None:
        """One iteration: scalars on the device, whether it counted, how many images, which teachers labelled them."""
        self._images += images
        self._teachers.update(teachers)
        for name, value in values.items():
            kept = torch.where(finite, value.detach().float(), 0.0)
            self._sums[name] = self._sums[name] + kept if name in self._sums else kept
            self._counts[name] = self._counts[name] + finite if name in self._counts else finite.long()

    def close(self, ranks: Ranks = ALONE) -> dict[str, float]:
        """Means, rates and shares since the last call; this is where the device is waited for. NaN where nothing counted.

        Every value of an iteration is a sum over its micro-batches, so the ranks' sums are added up. The wait for data is that
        of the rank that waited longest, since the others wait for it.
        """
        own = {name: (float(total), int(self._counts[name])) for name, total in self._sums.items()}
        found = ranks.gather((own, self._waited))
        names = dict.fromkeys(name for sums, _ in found for name in sums)
        parts = {name: [sums[name] for sums, _ in found if name in sums] for name in names}
        means = {
            name: sum(total for total, _ in some) / count if (count := max(n for _, n in some)) else math.nan
            for name, some in parts.items()
        }
        seconds = max(time.monotonic() - self._since, 1e-9)
        drawn = max(1, self._teachers.total())
        result = {
            **means,
            "images_per_s": self._images / seconds,
            "data_wait": min(1.0, max(waited for _, waited in found) / seconds),
            "seconds": time.monotonic() - self._begun,
            **{f"teacher/{name}": count / drawn for name, count in sorted(self._teachers.items())},
        }
        self._reset()
        return result
