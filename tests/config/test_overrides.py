"""``key=value``: parsed as YAML, put where the dotted key says, and located as an override when wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dadkit.config import ConfigError, RunConfig
from dadkit.config.stages import parse_assignments, split_arguments

Load = Callable[..., RunConfig]
Problems = Callable[..., list[str]]

TWO = """\
teachers: [{name: toy/large}]
data: {root: photos}
iterations: 10
stages:
  - name: first
    student: {name: toy/tiny}
  - name: second
    student: {name: toy/tiny}
    optim: {lr: 1e-3}
"""


def test_values_are_yaml(load: Load, small: str) -> None:
    run = load(small, "optim.lr=3e-4", "data.root=../photos", "compile=true", "optim.betas=[0.8, 0.99]", "ema=null", "name=a")
    stage = run.stages[0]
    assert stage.optim.lr == 3e-4
    assert stage.data.root == "../photos"
    assert stage.compile is True
    assert stage.optim.betas == (0.8, 0.99)
    assert stage.ema is None
    assert run.name == "a"


def test_one_stage_by_index_and_by_name(load: Load) -> None:
    run = load(TWO, "stages.1.optim.lr=3e-4", "stages.first.batch_size=4")
    assert [stage.optim.lr for stage in run.stages] == [5e-5, 3e-4]
    assert [stage.batch_size for stage in run.stages] == [4, 8]


def test_a_default_leaves_a_stage_with_its_own_value_alone(load: Load) -> None:
    run = load(TWO, "optim.lr=0.5")
    assert [stage.optim.lr for stage in run.stages] == [0.5, 1e-3]


def test_options_of_the_component_that_a_name_replaced_are_explained(load: Load, problems: Problems, small: str) -> None:
    file = small + "losses: {shared: {normalizer: {name: hybrid, options: {segments: [1, 2]}}}}\n"
    (problem,) = problems(file, "losses.shared.normalizer.name=global")
    assert "unknown key" in problem
    assert problem.endswith("the override 'losses.shared.normalizer={name: global}' takes this one without them)")
    run = load(file, "losses.shared.normalizer={name: global}")
    assert run.stages[0].losses.shared.normalizer.name == "global"
    (own,) = problems(small, "losses.shared.normalizer={name: global, options: {segments: [1]}}")
    assert "another component" not in own


def test_an_override_that_changes_nothing_is_an_error(load: Load, problems: Problems) -> None:
    text = TWO.replace("- name: first\n", "- name: first\n    optim: {lr: 1e-2}\n")
    assert problems(text, "optim.lr=0.5") == [
        "override 'optim.lr=0.5': optim.lr: changes nothing, since every stage sets its own; "
        "write stages.first.optim.lr=… or stages.second.optim.lr=…"
    ]
    assert problems(text, "optim.warmup=3") == []
    assert load(text, "optim={warmup: 3, lr: 1}").stages[0].optim.warmup == 3


def test_the_last_one_wins(load: Load, small: str) -> None:
    assert load(small, "batch_size=2", "batch_size=4").stages[0].batch_size == 4


def test_list_items_and_whole_lists(load: Load, small: str) -> None:
    run = load(small, "teachers.0.options.scale=2.0", "teachers.0.probability=0.7")
    assert run.stages[0].teachers[0].options["scale"] == 2.0
    assert run.stages[0].teachers[0].probability == 0.7
    run = load(small, "teachers=[{name: toy/tiny}, {name: toy/metric, probability: 3}]")
    assert [teacher.name for teacher in run.stages[0].teachers] == ["toy/tiny", "toy/metric"]


def test_options_of_a_component_that_is_there_by_default(load: Load, small: str) -> None:
    run = load(small, "contexts.options.n=2", "losses.shared.normalizer.options.segments=[1]")
    assert run.stages[0].contexts.name == "local-global"
    assert run.stages[0].contexts.options["n"] == 2
    assert run.stages[0].losses.shared.normalizer.options["segments"] == [1]


def test_a_mapping_replaces_what_stood_there(load: Load, small: str) -> None:
    run = load(small, "student.options.width=16", "student={name: toy/any}")
    assert run.stages[0].student is not None
    assert run.stages[0].student.options == {}


def test_epochs_takes_the_place_of_the_files_iterations(load: Load, small: str, problems: Problems) -> None:
    stage = load(small, "epochs=2").stages[0]
    assert (stage.iterations, stage.epochs) == (None, 2)
    stage = load(TWO, "stages.first.epochs=2").stages[0]
    assert (stage.iterations, stage.epochs) == (None, 2)
    assert "give iterations or epochs, not both" in problems(small, "epochs=2", "iterations=3")[0]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr", "override 'optim.lr': not key=value"),
        ("optim.lr=x", "override 'optim.lr=x': optim.lr: must be a number, got 'x'"),
        ("optm.lr=1", "override 'optm.lr=1': optm: unknown key, did you mean 'optim'?"),
        ("optim.lrr=1", "override 'optim.lrr=1': optim.lrr: unknown key, did you mean 'lr'?"),
        ("lr=1", "override 'lr=1': lr: unknown key, did you mean 'optim.lr'?"),
        ("batch_size.x=1", "override 'batch_size.x=1': batch_size.x: 'batch_size' is 8, it has no key 'x'"),
        ("optim.betas=[0.9", "override 'optim.betas=[0.9': optim.betas: the bracket or quote that opens here is not closed"),
        ("teachers.1.name=toy/tiny", "teachers.1: 'teachers' has 1 item, counted from 0, and no item 1"),
        ("teachers.large.probability=1", "'teachers' is a list of 1 item; write teachers.0"),
        ("stages.first.iterations=5", "stages.first: the file has no stages; its top level is its only one"),
        ("data.root=!!python/name:os.system x", "the tag !!python/name:os.system is refused"),
        ("optim={lr: 1, lr: 2}", "optim.lr: the key is given twice"),
    ],
)
def test_what_is_wrong_is_located_at_the_override(problems: Problems, small: str, override: str, message: str) -> None:
    (problem,) = problems(small + "batch_size: 8\n", override)
    assert message in problem
    assert problem.startswith(f"override '{override}'")


def test_unknown_stages_get_near_misses(problems: Problems) -> None:
    assert problems(TWO, "stages.frist.batch_size=1") == [
        "override 'stages.frist.batch_size=1': stages.frist: no stage 'frist' (stages: first, second), did you mean 'first'?"
    ]


def test_arguments_are_split_by_their_form(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lr=1.yaml").touch()
    assert split_arguments(["lr=1.yaml", "lr=2.yaml"]) == (["lr=1.yaml"], ["lr=2.yaml"])
    arguments = ["a.yaml", "optim.lr=3e-4", "runs/lr=1/config.yaml", "stages.one-two.data.root=x=y"]
    assert split_arguments(arguments) == (
        ["a.yaml", "runs/lr=1/config.yaml"],
        ["optim.lr=3e-4", "stages.one-two.data.root=x=y"],
    )
    long = f"losses.extra=[{', '.join(['{name: silog}'] * 40)}]"  # longer than any file's name
    assert split_arguments([long]) == ([], [long])


def test_assignments_become_plain_options() -> None:
    assert parse_assignments(["split=test", "count=64", "view.size=[1, 2]", "view.n=all"]) == {
        "split": "test",
        "count": 64,
        "view": {"size": [1, 2], "n": "all"},
    }
    with pytest.raises(ConfigError, match="not key=value"):
        parse_assignments(["split"])
