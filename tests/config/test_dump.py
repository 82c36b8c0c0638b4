"""A resolved run, written down, is the same run again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.config import RunConfig, dump, parse_run
from dadkit.config.reader import to_yaml

Load = Callable[..., RunConfig]

TWO = """\
name: two
teachers: [{name: toy/large}, {name: toy/huge, probability: 0.5}]
data: {root: [a, b.tar], workers: 0}
optim: {lr: 1e-4}
evaluation: {data: {name: pairs, options: {root: x, split: test}}, limit: 3}
stages:
  - name: first
    student: {name: toy/tiny}
    data: {labelled: [{name: procedural}]}
    epochs: 1.5
  - name: second
    student: {stage: first}
    teachers: [{stage: first}]
    iterations: 3
"""


def test_a_resolved_run_loads_again_to_an_equal_run(load: Load, small: str) -> None:
    for text in (small, TWO):
        run = load(text)
        assert load(dump(run)) == run
        assert dump(load(dump(run))) == dump(run)


def test_nothing_is_left_to_defaults(load: Load) -> None:
    data = yaml.safe_load(dump(load(TWO)))
    assert list(data) == list(RunConfig.model_fields)
    first, second = data["stages"]
    assert first["optim"]["betas"] == [0.9, 0.999]
    assert first["losses"]["anchor"] == {"weight": 0.1, "warmup_maps": 64}
    assert first["student"]["options"] == {"width": 32, "weights": None}
    assert first["teachers"][0]["options"] == {"weights": None, "sizes": [280, 560], "head": "relu", "scale": 1.0}
    assert second["student"] == {"stage": "first"}
    assert (first["epochs"], "iterations" in first) == (1.5, False)


def test_a_former_name_is_written_as_the_present_one(load: Load) -> None:
    assert [teacher.name for teacher in load(TWO).stages[0].teachers] == ["toy/large", "toy/large"]


def test_the_text_is_easy_to_read(load: Load, small: str) -> None:
    lines = dump(load(small)).splitlines()
    assert lines[0].startswith("# A resolved run, written by dadkit ")
    assert lines[1] == "name: run"
    assert "- name: main" in lines
    assert "    betas: [0.9, 0.999]" in lines
    assert not [line for line in lines if "&id" in line or "!!" in line]


def test_a_dumped_run_can_be_overridden_stage_by_stage(load: Load) -> None:
    again = load(dump(load(TWO)), "stages.second.epochs=2", "stages.first.optim.lr=0.5")
    assert (again.stages[1].iterations, again.stages[1].epochs) == (None, 2)
    assert again.stages[0].optim.lr == 0.5


_positive = st.floats(min_value=1e-12, max_value=1e6)
_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=30)
_changes: dict[str, st.SearchStrategy[Any]] = {
    "seed": st.integers(min_value=0, max_value=2**63),
    "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,20}", fullmatch=True),
    "output": _text,
    "data.root": _text | st.lists(_text, min_size=1, max_size=3),
    "optim.lr": _positive,
    "optim.encoder_lr": _positive | st.none(),
    "optim.clip_norm": st.none() | _positive,
    "optim.betas": st.tuples(st.floats(0, 1), st.floats(0, 1)).map(list),
    "losses.shared.trim": st.floats(0, 1, exclude_max=True),
    "losses.feature.cos_threshold": st.floats(-1, 1),
    "ema": st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
    "batch_size": st.integers(1, 1000),
    "compile": st.booleans(),
    "teachers.0.options.weights": st.none() | _text.filter(lambda text: "\0" not in text),
    "teachers.0.options.sizes": st.lists(st.integers(), max_size=4),
    "contexts": st.sampled_from([{"name": "local-global", "options": {"n": "all"}}, {"options": {"n": 2}}]),
}


@settings(deadline=None)
@given(st.fixed_dictionaries({}, optional=_changes))
def test_any_valid_overrides_survive(registry: Any, small: str, changes: dict[str, Any]) -> None:
    overrides = [f"{key}={to_yaml(value).removesuffix('...' + chr(10))}" for key, value in changes.items()]
    run = parse_run(small, overrides, registry=registry)
    assert parse_run(dump(run), registry=registry) == run
    assert run.stages[0].optim.lr == changes.get("optim.lr", 5e-5)
    assert run.stages[0].data.root == changes.get("data.root", "photos")
