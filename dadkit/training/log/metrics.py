"""``metrics.jsonl``: one JSON object per logged iteration, appended and flushed, cut back when a run is resumed.

Each line holds ``stage``, ``step`` (iterations done) and, for the iterations since the line before:

* ``loss/total`` and ``loss/TERM``: means, not yet multiplied by the terms' weights;
* ``student/median``, ``student/mad``, ``student/nonpositive``: of the student's raw maps in the logged iteration: mean over
  images of the median and of the mean absolute deviation, share of pixels <= 0; ``student/constant``: how many were constant;
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
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from dadkit.files import write_text

__all__ = ["MetricsFile", "append_line", "read_metrics", "truncate_lines"]


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
