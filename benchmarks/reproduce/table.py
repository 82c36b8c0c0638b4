"""A published table as data: rows that can be trained here, the paper's numbers, and the orderings that follow from them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from dadkit.config import RunConfig, load_run
from dadkit.errors import DadkitError
from dadkit.plugin import Registry

__all__ = [
    "NAMES",
    "ROOT",
    "SETTINGS",
    "Row",
    "Setting",
    "Table",
    "TableError",
    "load_setting",
    "load_table",
    "resolve",
    "run_name",
]

ROOT = Path(__file__).resolve().parent
SETTINGS = ("rendered", "real")
NAMES = ("1", "2", "4", "depth_anything", "lightweight")
"""The tables, in the order in which they are run."""


class TableError(DadkitError):
    """A table's file contradicts itself."""

    exit_code = 2


@dataclass(frozen=True)
class Setting:
    """Where the tables are run: a folder of recipes, and what its ``setting.yaml`` says.

    Attributes:
        folder: of the recipes, of ``setting.yaml`` and of ``page.md``.
        changes: word of a table's row -> the overrides that it stands for here.
        lines: word of a table's row -> the line of a run's evaluation.
        sets: folder below the work folder -> options of :func:`sets.write_set`.
    """

    folder: Path
    changes: Mapping[str, Sequence[str]] = field(default_factory=dict)
    lines: Mapping[str, str] = field(default_factory=dict)
    sets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """``rendered`` or ``real``."""
        return self.folder.name


@dataclass(frozen=True)
class Row:
    """One row.

    Attributes:
        setting: where it is run.
        table, name: where it is listed.
        recipe: the file of the setting that it changes.
        changes: overrides.
        published: the paper's AbsRel, one per dataset of the table; empty for a control of ours.
        same_as: ``(table, row)`` whose runs are this row's; its own if it trains.
        model: the line of the run's evaluation that is meant.
    """

    setting: Setting
    table: str
    name: str
    recipe: str
    changes: tuple[str, ...]
    published: tuple[float, ...]
    same_as: tuple[str, str]
    model: str

    @property
    def trains(self) -> bool:
        """Whether the row has runs of its own."""
        return self.same_as == (self.table, self.name)

    @property
    def source(self) -> Row:
        """The row whose runs the row takes; itself, if it trains."""
        return self if self.trains else load_table(self.same_as[0], self.setting).rows[self.same_as[1]].source


@dataclass(frozen=True)
class Table:
    """One table: rows by name, and the pairs (better, worse) that the paper's numbers say."""

    name: str
    title: str
    datasets: tuple[str, ...]
    rows: Mapping[str, Row]
    orderings: tuple[tuple[str, str], ...]


def load_setting(name: str) -> Setting:
    """Read ``NAME/setting.yaml``."""
    return Setting(ROOT / name, **yaml.safe_load((ROOT / name / "setting.yaml").read_text()))


def load_table(name: str, setting: Setting) -> Table:
    """Read ``tables/NAME.yaml``.

    Raises:
        TableError: an ordering names no row, or the published numbers do not say it.
    """
    data = yaml.safe_load((ROOT / "tables" / f"{name}.yaml").read_text())
    rows = {key: _row(setting, name, key, entry or {}, data["recipe"]) for key, entry in data["rows"].items()}
    table = Table(
        name=name,
        title=data["title"],
        datasets=tuple(data["datasets"]),
        rows=rows,
        orderings=tuple((better, worse) for better, worse in data["orderings"]),
    )
    for better, worse in table.orderings:
        _check_ordering(table, better, worse)
    return table


def resolve(row: Row, seed: int, overrides: Sequence[str] = (), *, registry: Registry | None = None) -> RunConfig:
    """The run of a row that trains, with one seed. Paths in it are relative to the work folder.

    The registry, the process's own if it is None, must know ``local_models.py``.
    """
    changes = [*row.changes, *overrides, f"seed={seed}", f"name={run_name(row, seed)}"]
    return load_run(row.setting.folder / f"{row.recipe}.yaml", changes, registry=registry)


def run_name(row: Row, seed: int | str) -> str:
    """What a run of the row is called; it is in ``runs/NAME``."""
    return f"{row.table}-{row.name}-s{seed}".replace("+", "-")


def _row(setting: Setting, table: str, name: str, entry: Mapping[str, Any], recipe: str) -> Row:
    same_as = entry.get("same_as", f"{table}/{name}").partition("/")
    model = entry.get("model", "student")
    return Row(
        setting=setting,
        table=table,
        name=name,
        recipe=entry.get("recipe", recipe),
        changes=tuple(one for word in entry.get("changes", []) for one in setting.changes.get(word, [word])),
        published=tuple(entry.get("published", ())),
        same_as=(same_as[0], same_as[2]),
        model=setting.lines.get(model, model),
    )


def _check_ordering(table: Table, better: str, worse: str) -> None:
    for name in (better, worse):
        if name not in table.rows:
            raise TableError(f"table {table.name}: an ordering names '{name}', which is no row of it")
    pairs = list(zip(table.rows[better].published, table.rows[worse].published, strict=True))
    if not any(first < second for first, second in pairs) or any(first > second for first, second in pairs):
        raise TableError(f"table {table.name}: the published numbers do not say that {better} is better than {worse}: {pairs}")
