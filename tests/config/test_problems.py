"""Everything that is wrong is said at once, in plain words, each with its place."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.config import ConfigError, Place, Problem, dump, parse_run
from dadkit.errors import DadkitError, did_you_mean

Problems = Callable[..., list[str]]


def test_five_mistakes_are_five_located_lines(problems: Problems) -> None:
    text = """\
student: {name: toy/tny}
teachers:
  - {name: toy/large, options: {scael: 2.0}}
data: {root: photos, workers: two}
iteration: 10
iterations: 20_000
losses:
  local_global: {normalizer: {name: none}}
"""
    name, *others = problems(text)
    assert name.startswith("run.yaml:1:17: student.name: unknown student 'toy/tny'; did you mean 'toy/tiny'?")
    assert others == [
        "run.yaml:3:33: teachers.0.options.scael: unknown key, did you mean 'scale'?",
        "run.yaml:4:31: data.workers: must be a whole number, got 'two'",
        "run.yaml:5:1: iteration: unknown key, did you mean 'iterations'?",
        "run.yaml:6:13: iterations: must be a whole number, got '20_000'; write 20000",
        "run.yaml:8:37: losses.local_global.normalizer.name: patches without normalisation fail (Distill Any Depth, Table 1: "
        "AbsRel .273 on ETH3D, where hybrid reaches .064), as each patch has a scale and shift of its own; choose hybrid, "
        "global or local, or set allow_unsound: true for an ablation",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("report: yes", "2:9: report: must be true or false, got 'yes'"),
        ("seed: -1", "2:7: seed: must be at least 0, got -1"),
        ("seed: 1.0", "2:7: seed: must be a whole number, got 1.0; write 1"),
        ("seed: true", "2:7: seed: must be a whole number, got true"),
        ("output: 5", "2:9: output: must be text, got 5; put it in quotes"),
        ("output:", "2:8: output: must be text, got nothing (null)"),
        ("optim: {lr: 0}", "2:13: optim.lr: must be greater than 0, got 0"),
        ("optim: {lr: .nan}", "2:13: optim.lr: must be a finite number, got nan"),
        ("optim: {betas: [0.9, x]}", "2:22: optim.betas.1: must be a number, got 'x'"),
        ("optim: {betas: [0.9]}", "2:16: optim.betas.1: missing, it has no default"),
        ("optim: {schedule: cosin}", "got 'cosin', did you mean 'cosine'?"),
        ("optim: [1]", "2:8: optim: must be a mapping of keys to values, got a list"),
        ("optim:", "2:7: optim: must be a mapping of keys to values, got nothing (null)"),
        ("ema: 1", "2:6: ema: must be less than 1, got 1"),
        ("flip: 2", "2:7: flip: must be at most 1, got 2"),
        ("device: gpu 0", "2:9: device: must be 'auto', 'cpu', 'cuda' or, for instance, 'cuda:1', got 'gpu 0'"),
        ("name: a/b", "2:7: name: must be letters, digits, '.', '_' and '-', with a letter or digit first, got 'a/b'"),
        ("lr: 1", "2:1: lr: unknown key, did you mean 'optim.lr'?"),
        ("zzz: 1", "2:1: zzz: unknown key; known here: name, output, seed,"),
        ("optim: {batch_size: 2}", "2:9: optim.batch_size: unknown key, did you mean 'batch_size'?"),
        ("evaluation: {}", "2:13: evaluation.data: missing, it has no default"),
        (
            "losses: {feature: {reference: 5}}",
            "2:31: losses.feature.reference: must be a mapping of keys to values or 'teacher', got 5",
        ),
        ("losses: {feature: {reference: {nmae: a}}}", "2:32: losses.feature.reference.nmae: unknown key, did you mean 'name'?"),
        (
            "losses: {feature: {reference: {}}}",
            "2:31: losses.feature.reference: a reference is either a registered component (name: …)",
        ),
        ("contexts: {options: 5}", "2:21: contexts.options: must be a mapping of keys to values, got 5"),
        ("contexts: {name: 5}", "2:18: contexts.name: must be text, got 5; put it in quotes"),
    ],
)
def test_messages_in_plain_words(problems: Problems, small: str, line: str, message: str) -> None:
    found = problems(f"# a comment\n{line}\n{small}")
    assert len(found) == 1, found
    assert message in found[0]


def test_a_union_is_one_problem(problems: Problems, small: str) -> None:
    text = small.replace("data: {root: photos}", "data: {root: 5}")
    assert problems(text) == ["run.yaml:4:14: data.root: must be text or a list, got 5; put it in quotes"]
    text = small.replace("data: {root: photos}", "data: {root: [a, 5]}")
    assert problems(text) == ["run.yaml:4:18: data.root.1: must be text, got 5; put it in quotes"]


def test_keys_of_the_run_inside_a_stage(problems: Problems, small: str) -> None:
    (problem,) = problems(small + "stages:\n  - {name: a, seed: 3}\n")
    assert problem == (
        "run.yaml:7:15: stages.0.seed: unknown key: it belongs to the run as a whole, so write it at the top level"
    )


def test_a_component_takes_a_name_or_a_stage(problems: Problems, small: str) -> None:
    both = small.replace("{name: toy/tiny}", "{name: toy/tiny, stage: a}")
    assert "a student is either a registered component (name: …) or an earlier stage's result (stage: …)" in problems(both)[0]
    text = small + "stages:\n  - {name: a}\n  - {name: b, teachers: [{stage: a, options: {x: 1}}]}\n"
    assert "options belong to a teacher with a name" in problems(text)[0]


def test_problems_are_sorted_by_place_and_overrides_come_last(problems: Problems, small: str) -> None:
    found = problems(f"zz: 1\n{small}aa: 2\n", "optim.lr=x", "batch_size=y")
    assert [line.split(": ")[1] for line in found] == ["zz", "aa", "optim.lr", "batch_size"]
    assert [line.split(": ")[0] for line in found][2:] == ["override 'optim.lr=x'", "override 'batch_size=y'"]


def test_the_error_is_a_dadkit_error_that_survives_pickling() -> None:
    place = Place(0, 3, 5, "a.yaml")
    error = ConfigError(
        [Problem(place, "b", "wrong"), Problem(Place(0, 1, 1, "a.yaml"), "", "bad"), Problem(place, "b", "wrong")]
    )
    assert isinstance(error, DadkitError)
    assert error.exit_code == 2
    assert str(error) == "2 problems in the configuration:\na.yaml:1:1: bad\na.yaml:3:5: b: wrong"
    assert pickle.loads(pickle.dumps(error)).problems == error.problems


_EDITS = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.sampled_from([*" \t\n:-{}[],'\"&*!#|>x1", "", "<<: ", "!!int "]))
)


@settings(deadline=None)
@given(edits=_EDITS)
def test_every_text_is_a_run_or_a_configuration_error(registry: Any, small: str, edits: list[tuple[float, str]]) -> None:
    text = small + "stages:\n  - {name: a, optim: {lr: 1e-3}}\n  - {name: b, teachers: [{stage: a}]}\n"
    for place, character in edits:
        index = int(place * len(text))
        text = text[:index] + character + text[index + 1 :]
    found: tuple[Problem, ...] = ()
    try:
        run = parse_run(text, registry=registry)
        assert parse_run(dump(run), registry=registry) == run
    except ConfigError as error:
        found = error.problems
    assert all(str(problem.place).startswith("<text>:") and problem.message for problem in found)


def test_near_misses() -> None:
    assert did_you_mean("studnt", ["student", "teachers"]) == ", did you mean 'student'?"
    assert did_you_mean("zzz", ["student"]) == ""
