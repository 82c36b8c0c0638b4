"""Options of components: validated by the plugin's model or the target's signature, and handed to the target as keywords."""

from __future__ import annotations

import dataclasses
import enum
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, model_validator

from dadkit.config import ConfigError, RunConfig, build, components, parse_run
from dadkit.config.components import SignatureError, complete_options, options_model, signature_model, validate_options
from dadkit.config.sections import find_slots
from dadkit.plugin import Component, PluginError

if TYPE_CHECKING:
    from nowhere import OnlyForTypeCheckers


class Head(enum.Enum):
    RELU = "relu"


class Tensor:
    """Stands for a type that YAML cannot hold."""


class OneTarget:
    """A registry with one component."""

    def __init__(self, target: Callable[..., Any], model: type | None = None, **meta: Any) -> None:
        self.component = Component(
            kind="teacher",
            name="acme/one",
            target="acme:one",
            api=1,
            plugin="acme",
            distribution="dadkit-acme",
            version="2",
            **meta,
        )
        self.target, self.model = target, model

    def resolve(self, kind: str, name: str) -> Component:
        return self.component

    def load(self, component: Component) -> Callable[..., Any]:
        return self.target

    def load_config(self, component: Component) -> type | None:
        return self.model

    def build(self, **options: Any) -> Any:
        return build("teacher", "acme/one", options, registry=self)  # type: ignore[arg-type]


def call(**arguments: Any) -> dict[str, Any]:
    return arguments


class Model:
    """A target.

    Args:
        weights: a file,
            or nothing.
        sizes: sides in pixels.
        schema, copy: names that pydantic's own methods have.
    """

    def __init__(
        self,
        weights: str | Path | None = None,
        *,
        path: Path | None = None,
        sizes: tuple[int, ...] = (1, 2),
        head: Head = Head.RELU,
        mode: Literal["a", "b"] = "a",
        names: Sequence[str] = (),
        scale: float = 1.0,
        implicit: int = None,  # type: ignore[assignment]  # noqa: RUF013
        schema: str = "s",
        copy: bool = False,
        tensor: Tensor | None = None,
        device: Tensor | str = "cpu",
        hidden: OnlyForTypeCheckers | None = None,
        untyped=3,
    ) -> None:
        self.got = {name: value for name, value in locals().items() if name != "self"}


def test_yaml_types_become_the_targets_types() -> None:
    got = OneTarget(Model).build(path="w.pth", sizes=[3, 4], head="relu", mode="b", names=["x"], scale=2, implicit=None).got
    assert got["path"] == Path("w.pth")
    assert got["sizes"] == (3, 4)
    assert got["head"] is Head.RELU
    assert (got["mode"], got["names"], got["implicit"], got["untyped"]) == ("b", ["x"], None, 3)
    assert got["scale"] == 2.0
    assert isinstance(got["scale"], float)


def test_python_values_are_taken_as_they_are() -> None:
    got = OneTarget(Model).build(path=Path("w.pth"), sizes=(3, 4), head=Head.RELU).got
    assert (got["path"], got["sizes"], got["head"]) == (Path("w.pth"), (3, 4), Head.RELU)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"wieghts": "x"}, "teacher 'acme/one': wieghts: unknown key, did you mean 'weights'?"),
        ({"sizes": [1, "2"]}, "sizes.1: must be a whole number, got '2'"),
        ({"sizes": 3}, "sizes: must be a list, got 3"),
        ({"head": "rleu"}, "head: must be 'relu', got 'rleu', did you mean 'relu'?"),
        ({"scale": "1e-4"}, "scale: must be a number, got '1e-4'"),
        ({"copy": "yes"}, "copy: must be true or false, got 'yes'"),
        ({"path": 5}, "path: must be text, got 5; put it in quotes"),
        ({"tensor": 5}, "tensor: unknown key"),
        ({"hidden": 5}, "hidden: unknown key"),
    ],
)
def test_options_that_do_not_fit_the_signature(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        OneTarget(Model).build(**options)
    assert message in str(caught.value)


def test_all_wrong_options_are_said_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        OneTarget(Model).build(sizes=3, scale="x", foo=1)
    assert len(caught.value.problems) == 3


def test_descriptions_come_from_the_docstring() -> None:
    properties = signature_model(Model).model_json_schema()["properties"]
    assert properties["weights"]["description"] == "a file, or nothing."
    assert properties["copy"]["description"] == properties["schema"]["description"] == "names that pydantic's own methods have."
    assert "tensor" not in properties
    assert properties["device"]["type"] == "string"  # the member of the union that YAML can hold


def test_fixed_arguments_are_no_options_and_are_given() -> None:
    def target(size: int = 1, fixed: int = 0) -> tuple[int, int]:
        return size, fixed

    registry = OneTarget(target, arguments={"fixed": 7})
    assert registry.build(size=2) == (2, 7)
    with pytest.raises(ConfigError, match="fixed: unknown key"):
        registry.build(fixed=8)


def test_keywords_of_any_name_pass() -> None:
    assert OneTarget(call).build(anything={"x": [1]}) == {"anything": {"x": [1]}}


def test_required_parameters() -> None:
    def target(root: str) -> str:
        return root

    assert OneTarget(target).build(root="x") == "x"
    with pytest.raises(ConfigError, match="root: missing"):
        OneTarget(target).build()


def test_dataclasses_with_factories() -> None:
    @dataclasses.dataclass
    class Options:
        """An options class.

        Attributes:
            sizes: sides.
        """

        sizes: list[int] = dataclasses.field(default_factory=lambda: [1])

    assert OneTarget(Options).build() == Options([1])
    assert complete_options(signature_model(Options), {}) == {"sizes": [1]}


def test_parameters_that_no_file_can_give() -> None:
    def needs_tensor(x: Tensor) -> None: ...
    def positional(x: int, /) -> None: ...

    with pytest.raises(SignatureError, match="'x' is required but has a type that YAML cannot hold"):
        signature_model(needs_tensor)
    with pytest.raises(PluginError, match=r"teacher 'acme/one' .*'x' is required but is positional-only"):
        OneTarget(positional).build(x=1)
    assert OneTarget(needs_tensor, arguments={"x": Tensor()}).build() is None


class Inner(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: int = 3


class Own(BaseModel):
    """A plugin's own model."""

    model_config = ConfigDict(extra="forbid")
    inner: Inner = Inner()
    low: float = 0.0
    high: float = 1.0

    @model_validator(mode="after")
    def _ordered(self) -> Own:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} must be below high {self.high}")
        return self


def test_a_plugins_own_model_validates_its_options() -> None:
    registry = OneTarget(call, Own, config="acme:Own")
    assert registry.build(low=0.5) == {"inner": Inner(), "low": 0.5, "high": 1.0}
    with pytest.raises(ConfigError) as caught:
        registry.build(inner={"sizee": 3}, loww=1)
    assert [str(problem) for problem in caught.value.problems] == [
        "teacher 'acme/one': inner.sizee: unknown key, did you mean 'size'?",
        "teacher 'acme/one': loww: unknown key, did you mean 'low'?",
    ]
    with pytest.raises(ConfigError, match=r"low 2\.0 must be below high 1\.0"):
        registry.build(low=2)


def test_what_is_declared_as_model_must_be_one() -> None:
    with pytest.raises(PluginError, match=r"teacher 'acme/one' .*acme:Own is not a pydantic model"):
        OneTarget(call, int, config="acme:Own").build()


def test_a_package_that_is_missing_when_the_target_is_called() -> None:
    def target() -> None:
        import a_package_that_nobody_has  # noqa: F401

    with pytest.raises(PluginError, match=r"acme/one.*dadkit-acme 2\) needs a package .*'a_package_that_nobody_has'"):
        OneTarget(target).build()


def test_complete_options_adds_the_defaults_as_plain_data() -> None:
    model = signature_model(Model)
    complete = complete_options(model, {"sizes": [5]})
    assert complete["sizes"] == [5]
    assert (complete["head"], complete["weights"], complete["scale"]) == ("relu", None, 1.0)
    assert "names" not in complete  # () would come back as []
    assert complete_options(model, complete) == complete


def test_defaults_that_are_no_plain_data_are_left_to_the_target() -> None:
    class Secret(BaseModel):
        token: SecretStr = SecretStr("x")
        size: int = 1

    def target(far: float = math.inf, cut: Any = Tensor()) -> None: ...  # noqa: B008

    assert complete_options(Secret, {}) == {"size": 1}
    assert complete_options(signature_model(target), {}) == {"far": math.inf}


def test_validate_options_and_options_model() -> None:
    registry = OneTarget(Model)
    assert validate_options(registry.component, {"sizes": [1]}, registry=registry) == {"sizes": (1,)}  # type: ignore[arg-type]
    assert set(options_model(registry.component, registry=registry).model_json_schema()["properties"]) >= {"weights"}  # type: ignore[arg-type]


def test_a_run_is_validated_once_and_each_components_options_twice(
    load: Callable[..., RunConfig], small: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once as they were given, once with the defaults, which must mean the same."""
    runs, options = [], []
    validate, parse = RunConfig.model_validate, components._parse
    monkeypatch.setattr(RunConfig, "model_validate", lambda data: runs.append(data) or validate(data))
    monkeypatch.setattr(components, "_parse", lambda model, given: options.append(model) or parse(model, given))
    run = load(small)
    assert len(runs) == 1
    found = find_slots(RunConfig, run.model_dump())
    slots = [slot for slot in found if slot.value["name"] and slot.path[0] != "log"]  # which is the default
    assert len(options) == 2 * len(slots)


def test_an_option_of_an_earlier_version_is_dropped_and_changes_no_other() -> None:
    for old in ({}, {"detach_scale": False}):
        assert build("normalizer", "hybrid", {"segments": [1, 2], **old}).norm.segments == (1, 2)
    run = parse_run(SMALL_RUN)
    assert run.stages[0].losses.shared.normalizer.options["segments"] == [1, 2, 4]
    with pytest.raises(ConfigError, match="detach_scale"):
        build("normalizer", "hybrid", {"detach_scale": True})


SMALL_RUN = "student: {name: topformer/tiny}\nteachers: [{name: dav2/tiny}]\ndata: {root: photos}\niterations: 3\n"
