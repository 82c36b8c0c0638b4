"""Training what the tables need, once, and reading what came of it."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from scenes import render
from table import RECIPES, ROOT, Row, Table, load_table, resolve, run_name

from dadkit.config import RunConfig, load_run
from dadkit.files import write_text
from dadkit.loading import read_card, result_path
from dadkit.training import train

__all__ = ["Finished", "finished", "prepare", "train_table"]

NOTE = "reproduce.json"
"""What this program adds to a run's folder: what the run was built on, and how long it took."""


@dataclass(frozen=True)
class Finished:
    """A finished run of a row.

    Attributes:
        metrics: line of its evaluation -> metric -> mean over the test scenes.
        protocol: the evaluation's.
        images: how many test scenes.
        config_hash: of what the student was trained with.
        built_on: hashes of scenes and teachers.
        seconds: training and evaluation together.
    """

    metrics: dict[str, dict[str, float]]
    protocol: str
    images: int
    config_hash: str
    built_on: dict[str, str]
    seconds: float


def sha256(path: Path) -> str:
    """Hash of a file's content."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def prepare(run: RunConfig, overrides: Sequence[str], say: Callable[[str], None]) -> dict[str, str]:
    """Render the scenes and train the teachers that a run names, where that is not done; answer with the hash of each.

    A path ``scenes/NAME`` in the run is a set of ``scenes.yaml``, ``runs/NAME`` the result of ``recipes/NAME.yaml``.
    """
    built_on = {}
    for name in _named(run, "scenes"):
        render(name, yaml.safe_load((ROOT / "scenes.yaml").read_text())[name], Path("scenes"), say=say)
        built_on[f"scenes/{name}"] = sha256(Path("scenes", name, "scenes.json"))
    for name in _named(run, "runs"):
        teacher = load_run(RECIPES / f"{name}.yaml", overrides)
        _train(teacher, prepare(teacher, overrides, say), say)
        built_on[f"runs/{name}"] = sha256(result_path(Path("runs", name)))
    return built_on


def train_table(
    table: Table,
    seeds: Sequence[int],
    overrides: Sequence[str],
    say: Callable[[str], None],
    *,
    out_of_time: Callable[[], bool] = lambda: False,
) -> bool:
    """Train the rows of a table, and of other tables that it takes rows from, seed by seed.

    Args:
        table: the table.
        seeds: of the students; the teachers are the same for all of them.
        overrides: for all runs.
        say: told what begins.
        out_of_time: asked before each run.

    Returns:
        Whether everything is there; False if time ran out.
    """
    for seed in seeds:
        for row in _rows(table):
            run = resolve(row, seed, overrides)
            built_on = prepare(run, overrides, say)
            if out_of_time() and not _is_finished(run, built_on):
                return False
            _train(run, built_on, say)
    return True


def finished(row: Row) -> dict[int, Finished]:
    """The finished runs of a row in the current folder, by seed."""
    source = _source(row)
    found = {}
    for note in Path("runs").glob(f"*/{NOTE}"):
        seed = note.parent.name.rpartition("-s")[2]
        if note.parent.name == run_name(source, seed) and seed.isdecimal():  # not mse-sn-kl-s0 for mse
            found[int(seed)] = _read(note.parent)
    return dict(sorted(found.items()))


def _read(folder: Path) -> Finished:
    note = json.loads((folder / NOTE).read_text())
    evaluation = json.loads((folder / "evaluation.json").read_text())
    return Finished(
        metrics={model["model"]: model["mean"] for model in evaluation["models"]},
        protocol=evaluation["protocol"]["name"],
        images=max(model["images"] for model in evaluation["models"]),
        config_hash=read_card(result_path(folder)).config_hash,
        built_on=note["built_on"],
        seconds=note["seconds"],
    )


def _source(row: Row) -> Row:
    """The row whose runs the row takes; itself, if it trains."""
    while not row.trains:
        row = load_table(row.same_as[0]).rows[row.same_as[1]]
    return row


def _rows(table: Table) -> Iterator[Row]:
    """The rows whose runs the table needs, each once."""
    seen = set()
    for row in table.rows.values():
        source = _source(row)
        if source.same_as not in seen:
            seen.add(source.same_as)
            yield source


def _named(run: RunConfig, folder: str) -> list[str]:
    """NAME of every path FOLDER/NAME… in a run, sorted."""

    def strings(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, list | tuple):
            for item in value:
                yield from strings(item)
        elif isinstance(value, str):
            yield value

    return sorted({text.split("/")[1] for text in strings(run.model_dump(mode="json")) if text.startswith(f"{folder}/")})


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
    errors = _errors(note.with_name("evaluation.json"))
    say(f"{run.name}: {seconds:.0f} s, AbsRel " + ", ".join(f"{name} {value:.4f}" for name, value in errors.items()))


def _errors(path: Path) -> dict[str, Any]:
    return {model["model"]: model["mean"]["abs_rel"] for model in json.loads(path.read_text())["models"]}
