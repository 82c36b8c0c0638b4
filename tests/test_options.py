"""The bases of options that plugins derive theirs from."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError

from dadkit.options import InitOptions, NeedsWeights, Options, WeightsOptions


class Student(InitOptions):
    """Options of a student."""

    side: int = 64
    """Pixels."""


class Teacher(Student, NeedsWeights):
    """Options of a released model as a teacher."""


class Encoder(NeedsWeights, WeightsOptions):
    """The other order, and words of its own."""

    weights_needed = "an encoder needs weights"
    weights: str | Path | None = None
    """Its own file."""
    span: int
    """Pixels."""


def test_they_and_those_of_the_builtin_plugins_load_without_torch():
    plugins = [path.parent.name for path in Path(__file__).parents[1].glob("plugins/*/dadkit_*/options.py")]
    assert len(plugins) > 7
    code = f"import sys, dadkit.options, {', '.join(f'{name}.options' for name in plugins)}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sides": 3}, "Extra inputs"),
        ({"side": "3"}, "valid integer"),
        ({"side": True}, "valid integer"),
        ({"init": "decoder"}, "'all', 'encoder' or 'none'"),
        ({"init": "encoder"}, "init: encoder takes it from a file, so it needs weights: PATH"),
        ({"init": "none", "weights": "a.pth"}, "takes nothing from the weights given"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        Student(**options)


def test_none_is_a_word_and_options_do_not_change():
    assert Student().model_dump() == {"weights": None, "init": "all", "side": 64}
    assert Student(weights="none", init="none").weights is None
    assert Student.model_validate_json('{"weights": "none"}').weights is None
    assert Student(weights=Path("a.pth")).weights == Path("a.pth")
    with pytest.raises(ValidationError, match="frozen"):
        Student().side = 3


@pytest.mark.parametrize("given", [{}, {"weights": ""}])
@pytest.mark.parametrize(
    ("model", "message"), [(Teacher, "a teacher needs weights: give .* or `none`"), (Encoder, "an encoder needs weights")]
)
def test_needed_weights_are_missed_at_their_key(model, message, given):
    with pytest.raises(ValidationError, match=message) as caught:
        model.model_validate({**given, "side" if model is Teacher else "span": 3})
    assert [error["loc"] for error in caught.value.errors()] == [("weights",)]


def test_needed_weights_may_be_none_if_that_is_said():
    assert Teacher(weights="none").weights is Teacher(weights=None).weights is None
    assert Teacher(weights="a.pth", init="encoder").weights == "a.pth"
    assert Encoder.model_validate_json('{"weights": "none", "span": 1}').weights is None


def test_the_schema_says_what_must_be_given():
    own = Student.model_json_schema()["properties"]["weights"]
    needed = Teacher.model_json_schema()
    assert needed["required"] == ["weights"]
    assert needed["properties"]["weights"] == {key: value for key, value in own.items() if key != "default"}
    assert Encoder.model_json_schema()["required"] == ["weights", "span"]
    assert Encoder.model_json_schema()["properties"]["weights"]["description"] == "Its own file."
    assert "required" not in Student.model_json_schema()


def test_every_option_is_described():
    for model in (Options, WeightsOptions, InitOptions, Teacher, Encoder):
        assert all(field.description for field in model.model_fields.values())
