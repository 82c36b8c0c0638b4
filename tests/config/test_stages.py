"""What stands at the top level is the default of every stage."""

from __future__ import annotations

from collections.abc import Callable

from dadkit.config import RunConfig

Load = Callable[..., RunConfig]
Problems = Callable[..., list[str]]

TEACHERS = "teachers: [{name: toy/large}]\ndata: {root: photos}\n"


def test_a_file_without_stages_is_one_stage_called_main(load: Load, small: str) -> None:
    run = load(small)
    assert [stage.name for stage in run.stages] == ["main"]
    assert run.name == "run"  # the file is run.yaml
    assert run.stages[0].iterations == 10


def test_stages_null_or_empty_is_no_stages(load: Load, small: str) -> None:
    assert load(small + "stages:\n") == load(small) == load(small + "stages: []\n")


def test_mappings_merge_key_by_key(load: Load) -> None:
    run = load(
        TEACHERS
        + """\
student: {name: toy/tiny, options: {width: 16}}
iterations: 5
optim: {lr: 1, warmup: 2}
losses:
  shared: {trim: 0.1}
stages:
  - {name: a}
  - name: b
    student: {options: {weights: w.pth}}
    optim: {lr: 2}
    losses: {shared: {weight: 3}}
"""
    )
    a, b = run.stages
    assert (a.optim.lr, a.optim.warmup, b.optim.lr, b.optim.warmup) == (1, 2, 2, 2)
    assert (b.losses.shared.trim, b.losses.shared.weight) == (0.1, 3)
    assert b.student is not None
    assert b.student.options == {"width": 16, "weights": "w.pth"}


def test_another_component_replaces_the_default_with_its_options(load: Load) -> None:
    run = load(
        TEACHERS
        + """\
student: {name: toy/tiny, options: {width: 16}}
contexts: {name: local-global, options: {n: 2}}
iterations: 5
stages:
  - {name: a}
  - name: b
    student: {stage: a}
    contexts: {name: shared, options: {view_size: 64}}
    losses: {local_global: {weight: 0}}
  - name: c
    student: {name: toy/any}
"""
    )
    assert run.stages[1].student is not None
    assert run.stages[1].student.name is None
    assert run.stages[1].contexts.options == {"view_size": 64}
    assert run.stages[2].student is not None
    assert run.stages[2].student.options == {}


def test_options_under_a_default_component_do_not_reach_another_one(load: Load) -> None:
    """``contexts`` without a name is local-global, so a stage that names ``shared`` names another component."""
    text = TEACHERS + "contexts: {options: {n: 2}}\niterations: 5\nstages:\n  - {name: a, student: {name: toy/tiny}}\n"
    text += "  - {name: b, student: {stage: a}, contexts: {name: shared}, losses: {local_global: {weight: 0}}}\n"
    assert load(text).stages[1].contexts.options == {"view_size": 560}


def test_only_components_are_replaced_by_name(load: Load) -> None:
    text = TEACHERS + "optim: {name: adamw, lr: 0.5}\niterations: 5\nstages:\n"
    run = load(text + "  - {name: a, student: {name: toy/tiny}, optim: {name: adam}}\n")
    assert (run.stages[0].optim.name, run.stages[0].optim.lr) == ("adam", 0.5)


def test_dadkits_own_defaults_lie_below(load: Load, small: str) -> None:
    losses = load(small + "losses: {local_global: {trim: 0.1}, labelled: {weight: 2}}\n").stages[0].losses
    assert (losses.local_global.weight, losses.local_global.normalizer.name) == (0.5, "hybrid")
    assert losses.labelled.normalizer.name == "global"


def test_lists_replace(load: Load) -> None:
    text = "student: {name: toy/tiny}\nteachers: [{name: toy/large}, {name: toy/tiny}]\niterations: 5\nstages:\n"
    text += "  - {name: a, teachers: [], data: {labelled: [{name: procedural}]}}\n"
    text += "  - {name: b, teachers: [{stage: a}], data: {root: photos}}\n  - {name: c, data: {root: photos}}\n"
    assert [len(stage.teachers) for stage in load(text).stages] == [0, 1, 2]


def test_iterations_and_epochs_are_one_choice(load: Load) -> None:
    text = TEACHERS + "student: {name: toy/tiny}\niterations: 5\nstages:\n  - {name: a}\n  - {name: b, epochs: 2}\n"
    run = load(text + "  - {name: c, epochs: null}\n")
    assert [(stage.iterations, stage.epochs) for stage in run.stages] == [(5, None), (None, 2), (5, None)]


def test_the_resolved_run_has_stage_keys_in_its_stages_only() -> None:
    assert set(RunConfig.model_fields) == {
        "name",
        "output",
        "seed",
        "device",
        "deterministic",
        "stages",
        "evaluation",
        "report",
        "log",
        "hooks",
    }


def test_a_mistake_in_a_default_is_said_once_and_where_it_stands(problems: Problems) -> None:
    text = TEACHERS + "student: {name: toy/tiny}\niterations: 5\noptim: {lr: x, wramup: 2}\n"
    text += "stages:\n  - {name: a}\n  - {name: b}\n"
    assert problems(text) == [
        "run.yaml:5:13: optim.lr: must be a number, got 'x'",
        "run.yaml:5:16: optim.wramup: unknown key, did you mean 'warmup'?",
    ]


def test_a_mistake_in_a_default_that_no_stage_uses(problems: Problems) -> None:
    text = "student: {name: toy/tiny}\nteachers: [{nmae: toy/large}]\niterations: 5\nstages:\n"
    text += "  - {name: a, teachers: [], data: {labelled: [{name: procedural}]}}\n"
    assert problems(text) == ["run.yaml:2:13: teachers.0.nmae: unknown key, did you mean 'name'?"]


def test_half_a_component_may_be_a_default(load: Load) -> None:
    text = TEACHERS + "student: {options: {width: 16}}\niterations: 5\nstages:\n  - {name: a, student: {name: toy/tiny}}\n"
    assert load(text).stages[0].student.options["width"] == 16  # type: ignore[union-attr]


def test_stages_that_are_no_list_of_mappings(problems: Problems, small: str) -> None:
    assert problems(small + "stages: {a: 1}\n") == ["run.yaml:6:9: stages: must be a list, got a mapping"]
    assert problems(small + "stages: [5]\n") == ["run.yaml:6:10: stages.0: must be a mapping of keys to values, got 5"]


def test_names_of_stages_differ(problems: Problems, small: str) -> None:
    assert problems(small + "stages:\n  - {name: a}\n  - {name: a}\n") == [
        "run.yaml:8:12: stages.1.name: a second stage called 'a' (the first: run.yaml:7:12); give each a name of its own"
    ]
    assert "a second stage called 'main'" in problems(small + "stages:\n  - {}\n  - {}\n")[0]
    assert problems(small + "stages:\n  - {name: 1.5}\n")[0].endswith("must be text, got 1.5; put it in quotes")
    (problem,) = problems(small + "stages:\n  - {name: One}\n")
    assert problem.endswith("must be lower-case letters, digits, '_' and '-', with a letter first, got 'One'")
