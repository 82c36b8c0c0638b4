"""A file that extends another one: what it takes over, what it changes, and where messages say mistakes are."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dadkit.config import ConfigError, RunConfig, dump, load_run, parse_run
from dadkit.plugin import Registry

Files = Callable[..., Path]

BASE = """\
name: base
student: {name: toy/tiny, options: {width: 16}}
teachers: [{name: toy/large}]
data: {root: photos}
losses:
  shared: {normalizer: {name: hybrid, options: {segments: [1, 2]}}, trim: 0.1}
iterations: 10
seed: 3
"""


@pytest.fixture
def write(tmp_path: Path) -> Files:
    def files(**texts: str) -> Path:
        for name, text in texts.items():
            path = tmp_path / f"{name.replace('__', '/')}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return tmp_path / f"{[*texts][-1].replace('__', '/')}.yaml"

    return files


@pytest.fixture
def load_file(registry: Registry) -> Callable[..., RunConfig]:
    return lambda path, *overrides: load_run(path, overrides, registry=registry)


def problems_of(load_file: Callable[..., RunConfig], path: Path, *overrides: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load_file(path, *overrides)
    return [str(problem).replace(str(path.parent) + "/", "") for problem in caught.value.problems]


def test_values_are_taken_over_and_changed_key_by_key(write: Files, load_file: Callable[..., RunConfig]) -> None:
    run = load_file(write(base=BASE, row="extends: base.yaml\nlosses: {shared: {trim: 0.2}}\n"))
    assert run.name == "row", "the name is the file's own"
    assert run.seed == 3
    (stage,) = run.stages
    assert stage.losses.shared.trim == 0.2
    assert stage.losses.shared.normalizer.options["segments"] == [1, 2]
    assert stage.student is not None
    assert stage.student.options["width"] == 16


def test_another_component_replaces_and_lists_replace(write: Files, load_file: Callable[..., RunConfig]) -> None:
    row = "extends: base.yaml\nname: mine\nteachers: []\nlosses: {shared: {normalizer: {name: global}}}\n"
    row += "data: {root: null, labelled: [{name: procedural}]}\nepochs: 2\n"
    run = load_file(write(base=BASE, row=row))
    (stage,) = run.stages
    assert run.name == "mine"
    assert stage.teachers == []
    assert stage.losses.shared.normalizer.name == "global"
    assert "segments" not in stage.losses.shared.normalizer.options
    assert (stage.iterations, stage.epochs) == (None, 2), "epochs takes the place of the other file's iterations"


STAGES = BASE.replace("iterations: 10\n", "") + (
    "stages:\n  - {name: first, iterations: 10, optim: {lr: 1, warmup: 2}}\n"
    "  - {name: second, student: {stage: first}, iterations: 20}\n"
)


def test_stages_are_changed_by_name(write: Files, load_file: Callable[..., RunConfig]) -> None:
    row = "extends: base.yaml\nstages:\n  first: {optim: {lr: 5}}\n  second: {epochs: 1}\n"
    first, second = load_file(write(base=STAGES, row=row)).stages
    assert (first.optim.lr, first.optim.warmup, first.iterations) == (5, 2, 10)
    assert (second.name, second.iterations, second.epochs) == ("second", None, 1)


def test_a_list_of_stages_replaces_the_other_files(write: Files, load_file: Callable[..., RunConfig]) -> None:
    row = "extends: base.yaml\nstages: [{name: only, iterations: 5}]\n"
    assert [stage.name for stage in load_file(write(base=STAGES, row=row)).stages] == ["only"]


def test_files_extend_files_of_other_folders(write: Files, load_file: Callable[..., RunConfig]) -> None:
    path = write(
        base=BASE, middle="extends: base.yaml\nseed: 4\noptim: {lr: 7}\n", rows__row="extends: ../middle.yaml\nseed: 5\n"
    )
    run = load_file(path)
    assert (run.name, run.seed, run.stages[0].optim.lr, run.stages[0].iterations) == ("row", 5, 7, 10)


def test_overrides_come_last_and_the_resolved_file_stands_alone(
    write: Files, load_file: Callable[..., RunConfig], registry: Registry
) -> None:
    run = load_file(write(base=BASE, row="extends: base.yaml\nseed: 4\n"), "seed=6", "optim.lr=2")
    assert (run.seed, run.stages[0].optim.lr) == (6, 2)
    assert "extends" not in dump(run)
    assert parse_run(dump(run), registry=registry) == run


def test_mistakes_are_said_where_they_were_written(write: Files, load_file: Callable[..., RunConfig]) -> None:
    base = BASE.replace("seed: 3", "seed: -3").replace("trim: 0.1", "trim: 2")
    path = write(base=base, row="extends: base.yaml\n\nloses: {}\noptim:\n  lr: fast\n")
    found = problems_of(load_file, path)
    assert [text.split(": ")[:2] for text in found] == [
        ["row.yaml:3:1", "loses"],
        ["row.yaml:5:7", "optim.lr"],
        ["base.yaml:6:75", "losses.shared.trim"],
        ["base.yaml:8:7", "seed"],
    ]
    assert "did you mean 'losses'?" in found[0]


def test_a_change_that_changes_nothing_is_a_mistake(write: Files, load_file: Callable[..., RunConfig]) -> None:
    base = STAGES.replace("{stage: first}, iterations: 20", "{stage: first}, iterations: 20, optim: {lr: 3}")
    (problem,) = problems_of(load_file, write(base=base, row="extends: base.yaml\noptim: {lr: 9}\n"))
    assert problem.startswith(
        "row.yaml:2:13: optim.lr: changes nothing, since every stage sets its own; write stages.first.optim"
    )


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("extends: nowhere.yaml\n", "row.yaml:1:10: extends: there is no file"),
        ("extends: [base.yaml]\n", "row.yaml:1:10: extends: must be the path of another file, got a list"),
        ("extends: row.yaml\n", "row.yaml:1:10: extends: row.yaml extends this file as well"),
        ("extends: base.yaml\nstages: {a: {}}\n", "row.yaml:2:9: stages: the file that this one extends has no stages"),
        (
            "extends: staged.yaml\nstages: {frist: {}}\n",
            "row.yaml:2:10: stages.frist: no stage 'frist' (stages: first, second), did",
        ),
    ],
)
def test_wrong_uses(write: Files, load_file: Callable[..., RunConfig], row: str, expected: str) -> None:
    found = problems_of(load_file, write(base=BASE, staged=STAGES, row=row))
    assert any(text.startswith(expected) for text in found), found


def test_without_extends_stages_are_a_list(write: Files, load_file: Callable[..., RunConfig]) -> None:
    found = problems_of(load_file, write(run=BASE + "stages: {a: {}}\n"))
    assert any("stages: must be a list" in text for text in found), found


def test_text_extends_files_of_the_current_folder(write: Files, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write(base=BASE).parent)
    assert parse_run("extends: base.yaml\nseed: 9\n", registry=registry).seed == 9
