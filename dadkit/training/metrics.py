"""What is logged: sums between two lines (:class:`Window`), and ``metrics.jsonl``.

The file holds one JSON object per logged iteration. Lines are appended and flushed, and cut back when a run is resumed.

Each line holds ``stage``, ``step`` (iterations done) and, for the iterations since the line before:

* ``loss/total`` and ``loss/TERM``: means, not yet multiplied by the terms' weights;
* ``student/median``, ``student/mad``, ``student/nonpositive``: of the student's raw maps in the logged iteration: mean over
  images of the median and of the mean absolute deviation, share of pixels <= 0; ``student/constant``: how many were constant;
* ``student/near_share``: share of the labelled loss that the nearest hundredth of the labelled pixels carries; far above 0.01
  where a few near pixels dominate;
* ``grad_norm`` (mean, before clipping), ``lr/encoder``, ``lr/decoder``;
* ``images_per_s``; ``data_wait``: share of the time, in [0, 1], in which training stood still because no batch was ready (of
  several processes, the one that waited longest); ``seconds`` since the stage began in this process;
* ``teacher/NAME``: share of the iterations in which it was drawn;
* ``nonfinite``: skipped iterations so far; ``unreadable``: samples so far that could not be read;
* ``validation/abs_rel`` where the stage was evaluated.
"""

from __future__ import annotations

import json
import math
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dadkit.files import write_text
from dadkit.training.distributed import ALONE, Ranks

__all__ = ["MetricsFile", "Window", "append_line", "read_metrics", "truncate_lines"]


class MetricsFile:
    """The metrics of one stage within the run's ``metrics.jsonl``.

    Args:
        path: the file; it is made when the first line is written.
        stage: the stage that writes.
        start: iterations already done. Lines of this stage beyond it come from a process that died after its last checkpoint;
            they are removed, since the resumed run writes them again; so is a validation at ``start``, which is repeated.
    """

    def __init__(self, path: Path, stage: str, *, start: int) -> None:
        self.path = path
        self.stage = stage
        truncate_lines(path, lambda line: line["stage"] != stage or _belongs(line, start))

    def write(self, step: int, values: Mapping[str, Any]) -> None:
        """Append one line: stage, step, values. Numbers that JSON does not know (NaN, infinity) become null."""
        append_line(self.path, {"stage": self.stage, "step": step, **values})


def append_line(path: Path, values: Mapping[str, Any]) -> None:
    """Append one JSON object as a line and flush it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as handle:
        handle.write(_encode(values))


def truncate_lines(path: Path, keep: Callable[[Mapping[str, Any]], bool]) -> None:
    """Keep only those lines of a JSON lines file, if there is one; written anew only if something goes."""
    if not path.exists():
        return
    lines = list(read_metrics(path))
    kept = "".join(_encode(line) for line in lines if keep(line))
    if kept != path.read_text(encoding="utf-8"):
        write_text(path, kept)


def read_metrics(path: Path) -> Iterator[dict[str, Any]]:
    """The lines of a metrics file. A last line torn by a crash is left out."""
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            yield json.loads(line)
        except json.JSONDecodeError:
            continue


def _encode(values: Mapping[str, Any]) -> str:
    return json.dumps({k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}) + "\n"


def _belongs(line: Mapping[str, Any], start: int) -> bool:
    is_validation = any(name.startswith("validation/") for name in line)
    return bool(line["step"] < start or (line["step"] == start and not is_validation))


class Window:
    """What happened since the last log line. Sums are kept on the device, so that no iteration waits for it."""

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
