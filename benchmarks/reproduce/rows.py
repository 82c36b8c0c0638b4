"""Training what the tables need, once, and reading what came of it."""

from __future__ import annotations

import hashlib
import json
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from sets import given, write_set
from table import Row, Setting, Table, resolve, run_name
from verdict import judge

from dadkit.config import RunConfig, load_run
from dadkit.files import write_text
from dadkit.loading import read_card, result_path
from dadkit.training import train

__all__ = ["FIRST_LOOK", "Finished", "finished", "judged", "prepare", "read", "sources", "train_rows", "undecided"]

NOTE = "reproduce.json"
"""What this program adds to a run's folder: what the run was built on, and how long it took."""

FIRST_LOOK = 3
"""Seeds that each row has before an ordering may count as decided."""

Metrics = dict[str, dict[str, float]]
"""Line of an evaluation -> metric -> mean over the images, then over the sets."""


@dataclass(frozen=True)
class Finished:
    """A finished run of a row.

    Attributes:
        metrics: kind of sets (the first part of their path: ``pairs``, ``scenes``) -> metrics. The first kind, that of
            ``evaluation.data``, judges.
        images: kind of sets -> how many images, of how many sets.
        protocol: the evaluation's.
        config_hash: of what the student was trained with.
        built_on: hashes of sets and teachers.
        seconds: training and evaluation together.
    """

    metrics: dict[str, Metrics]
    images: dict[str, tuple[int, int]]
    protocol: str
    config_hash: str
    built_on: dict[str, str]
    seconds: float


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def prepare(run: RunConfig, setting: Setting, overrides: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """Write the sets and train the teachers that a run names, where that is not done; answer with the hash of each.

    A path in the run that begins with the name of one of the setting's sets is that set, ``runs/NAME`` the result of the
    setting's ``NAME.yaml``, ``given/NAME`` what the command line gave.
    """
    built_on = {}
    texts = list(_strings(run.model_dump(mode="json")))
    for name, options in setting.sets.items():
        if any(f"{text}/".startswith(f"{name}/") for text in texts):
            write_set(Path(name), options, say=say)
            built_on[name] = sha256(Path(name, "set.json"))
    for name in sorted({text.removeprefix("given/") for text in texts if text.startswith("given/")}):
        built_on[f"given/{name}"] = sha256(given(name))
    for name in sorted({text.split("/")[1] for text in texts if text.startswith("runs/")}):
        teacher = load_run(setting.folder / f"{name}.yaml", overrides)
        _train(teacher, prepare(teacher, setting, overrides, say), say)
        built_on[f"runs/{name}"] = sha256(result_path(Path("runs", name)))
    return built_on


def train_rows(
    rows: Sequence[Row],
    seeds: Sequence[int],
    overrides: Sequence[str],
    say: Callable[[str], None],
    *,
    needed: Callable[[Row], bool] = lambda row: True,
    out_of_time: Callable[[], bool] = lambda: False,
) -> bool:
    """Train the rows seed by seed, so that all rows have one seed before any has the next.

    Args:
        rows: those that train, in their order.
        seeds: of the students; the teachers are the same for all of them.
        overrides: for all runs.
        say: told what begins.
        needed: asked before a seed beyond the first ``FIRST_LOOK``: does the row need another one?
        out_of_time: asked before each run.

    Returns:
        Whether everything is there; False if time ran out.
    """
    for seed in seeds:
        for row in rows:
            if seed >= FIRST_LOOK and not needed(row):
                continue
            run = resolve(row, seed, overrides)
            built_on = prepare(run, row.setting, overrides, say)
            if out_of_time() and not _is_finished(run, built_on):
                return False
            _train(run, built_on, say)
    return True


def sources(tables: Sequence[Table], chosen: Callable[[Row], bool] = lambda row: True) -> list[Row]:
    """The rows whose runs the chosen rows of the tables need, each once."""
    rows = {row.source.same_as: row.source for table in tables for row in table.rows.values() if chosen(row)}
    return list(rows.values())


def undecided(tables: Sequence[Table]) -> set[tuple[str, str]]:
    """The rows (table, name) that train and that an ordering needs which the runs so far do not decide."""
    found = set()
    for table in tables:
        values = {name: judged(row, finished(row)) for name, row in table.rows.items()}
        for better, worse in table.orderings:
            verdict = judge(better, worse, values)
            if verdict is not None and verdict.answer == "undecided":
                found |= {table.rows[name].source.same_as for name in (better, worse)}
    return found


def finished(row: Row) -> dict[int, Finished]:
    """The finished runs of a row in the current folder, by seed."""
    found = {}
    for note in Path("runs").glob(f"*/{NOTE}"):
        seed = note.parent.name.rpartition("-s")[2]
        if note.parent.name == run_name(row.source, seed) and seed.isdecimal():  # not mse-sn-kl-s0 for mse
            found[int(seed)] = read(note.parent)
    return dict(sorted(found.items()))


def judged(row: Row, runs: dict[int, Finished], metric: str = "abs_rel", kind: str | None = None) -> dict[int, float]:
    """The row's values by seed, on the kind of sets that judges or on another."""
    return {seed: run.metrics[kind or next(iter(run.metrics))][row.model][metric] for seed, run in runs.items()}


def read(folder: Path) -> Finished:
    """What a finished run's folder says."""
    note = json.loads((folder / NOTE).read_text())
    kinds: dict[str, list[dict[str, Any]]] = {}
    for path in [folder / "evaluation.json", *sorted(folder.glob("evaluations/*/evaluation.json"))]:
        evaluation = json.loads(path.read_text())
        kinds.setdefault(evaluation["dataset"]["options"]["root"].split("/")[0], []).append(evaluation)
    return Finished(
        metrics={kind: _mean([_lines(evaluation) for evaluation in found]) for kind, found in kinds.items()},
        images={kind: (sum(_images(evaluation) for evaluation in found), len(found)) for kind, found in kinds.items()},
        protocol=json.loads((folder / "evaluation.json").read_text())["protocol"]["name"],
        config_hash=read_card(result_path(folder)).config_hash,
        built_on=note["built_on"],
        seconds=note["seconds"],
    )


def _lines(evaluation: dict[str, Any]) -> Metrics:
    return {model["model"]: model["mean"] for model in evaluation["models"]}


def _images(evaluation: dict[str, Any]) -> int:
    return max(model["images"] for model in evaluation["models"])


def _mean(sets: Sequence[Metrics]) -> Metrics:
    """Over sets; what one of them lacks is left out."""
    first, *others = sets
    return {
        line: {
            metric: statistics.fmean(one[line][metric] for one in sets)
            for metric in values
            if all(metric in one.get(line, {}) for one in others)
        }
        for line, values in first.items()
    }


def _strings(value: Any) -> Iterator[str]:
    """All texts in plain data."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        for item in value:
            yield from _strings(item)
    elif isinstance(value, str):
        yield value


def _is_finished(run: RunConfig, built_on: dict[str, str]) -> bool:
    note = Path(run.output, run.name, NOTE)
    return note.is_file() and json.loads(note.read_text())["built_on"] == built_on


def _train(run: RunConfig, built_on: dict[str, str], say: Callable[[str], None]) -> None:
    """Train a run, unless it is finished; from the start where it was built on something else.

    The engine refuses to go on with another teacher; here it is meant, so the run begins anew. Scenes are data, at whose
    content the engine does not look.
    """
    if _is_finished(run, built_on):
        return
    note = Path(run.output, run.name, NOTE)
    begun = time.monotonic()
    # Without a note the folder is either new or was interrupted; with one, the run was built on something else. One that was
    # interrupted before its teacher changed is refused by the engine: remove its folder.
    train(run, fresh=note.is_file(), console=Console(quiet=True))
    seconds = time.monotonic() - begun
    write_text(note, json.dumps({"built_on": built_on, "seconds": round(seconds, 1)}, indent=2) + "\n")
    lines = read(note.parent).metrics.items()
    errors = (f"{kind} {line} {values['abs_rel']:.4f}" for kind, found in lines for line, values in found.items())
    say(f"{run.name}: {seconds:.0f} s, AbsRel " + ", ".join(errors))
