"""`dadkit students --cost`: measured, one row a model, and a model that fails says why in its own."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Literal

import pytest
import torch
from pydantic import BaseModel
from torch import nn
from typer.testing import CliRunner

from dadkit.cli import app
from dadkit.cli.components import Cost, _least_options, measure, short
from dadkit.config.components import options_model, validate_options
from dadkit.interfaces import ModelSpec, SizePolicy, Student
from dadkit.plugin import Component, get_registry
from dadkit.spaces import Space


class Pick(StrEnum):
    ONE = "one"


class Options(BaseModel):
    weights: str
    space: Literal["depth", "disparity"]
    max_depth: float
    pick: Pick
    optional: int = 3


class Model(Student):
    """One convolution; tells what it was built with."""

    def __init__(self, weights: str, space: str, max_depth: float, pick: str, optional: int) -> None:
        super().__init__()
        assert (weights, space, pick, optional) == ("none", "depth", "one", 3)
        assert max_depth > 0
        self.spec = ModelSpec("model", Space(space), size_multiple=8, native=SizePolicy(64, "exact", 8))
        self.net = nn.Conv2d(3, 1, 3, padding=1)

    def estimate(self, x):
        assert x.device.type == "meta"
        return self.net(x), {}


class Broken(Student):
    def __init__(self) -> None:
        raise ArithmeticError("the moon is full\nand more lines")

    def estimate(self, x):
        raise AssertionError("what was never built cannot be asked")


class Own(Model):
    """Takes images at their own size."""

    def __init__(self) -> None:
        super().__init__("none", "depth", 1.0, "one", 3)
        self.spec = ModelSpec("own", Space.DEPTH, size_multiple=32)


class FakeRegistry:
    """Resolves the components it is given and imports their targets from here."""

    def __init__(self, *components: Component) -> None:
        self.all = components

    def resolve(self, kind, name):
        return next(component for component in self.all if component.name == name)

    def components(self, kind, pattern="*"):
        return list(self.all)

    def plugins(self):
        return []

    def load(self, component):
        return globals()[component.target.partition(":")[2]]

    def load_config(self, component):
        return Options if component.config else None


@pytest.fixture
def registry(monkeypatch):
    def component(name, target, config=None):
        return Component("student", name, f"here:{target}", 1, "acme", "dadkit-acme", "1", config=config)

    found = FakeRegistry(
        component("acme/a", "Model", "here:Options"), component("acme/b", "Broken"), component("acme/c", "Own")
    )
    monkeypatch.setattr("dadkit.plugin.get_registry", lambda: found)
    monkeypatch.setattr("dadkit.config.components._default_registry", lambda: found)
    return found


def test_parameters_and_multiply_adds_are_counted(registry):
    whole = registry.all[0]
    assert measure(whole) == Cost(3 * 9 + 1, 64 * 64 * 27, (64, 64), "any size")
    assert measure(whole, 100) == Cost(28, 104 * 104 * 27, (104, 104), "any size")


def test_a_model_without_a_size_of_its_own_sees_448_pixels(registry):
    assert measure(registry.all[2]).size == (448, 448)


def test_a_failure_is_a_reason(registry):
    assert measure(registry.all[1]) == Cost(error="ArithmeticError: the moon is full")


@pytest.mark.parametrize("command", ["students", "teachers"])
def test_the_table_does_not_stop(registry, command):
    result = CliRunner().invoke(app, [command, "--cost"])
    assert result.exit_code == 0, result.output
    rows = {line.split()[0]: line.split() for line in result.output.splitlines()}
    assert rows["acme/a"][1:7] == ["28", "111", "k", "64x64", "any", "size"]
    assert "moon" in rows["acme/b"]
    assert rows["acme/c"][-3:] == ["448x448", "any", "size"]


def test_json_has_the_exact_numbers_and_size_implies_cost(registry):
    result = CliRunner().invoke(app, ["students", "--json", "--size", "32"])
    assert result.exit_code == 0, result.output
    costs = {entry["name"]: entry["cost"] for entry in json.loads(result.stdout)}
    assert costs["acme/a"] == {
        "parameters": 28,
        "multiply_adds": 32 * 32 * 27,
        "size": [32, 32],
        "exportable": "any size",
        "error": "",
    }
    assert costs["acme/b"]["parameters"] is None


def test_a_real_model_matches_its_memory():
    from dadkit.plugin import get_registry

    component = get_registry().resolve("student", "topformer/tiny")
    cost = measure(component, 64)
    from dadkit.loading import load_student

    model = load_student("topformer/tiny")
    assert cost.parameters == sum(p.numel() for p in model.parameters())
    assert cost.multiply_adds > 1e6
    assert torch.empty(0).device.type == "cpu"  # the meta device does not outlive the measurement


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (None, ""),
        (0, "0"),
        (999, "999"),
        (1000, "1.00 k"),
        (1_258_132_480, "1.26 G"),
        (24_785_088, "24.8 M"),
        (999_600, "1.00 M"),
    ],
)
def test_numbers_are_short(count, text):
    assert short(count) == text


def test_every_model_that_takes_weights_takes_the_word_none():
    """Else neither YAML nor this list can have its random weights."""
    registry = get_registry()
    models = [one for kind in ("teacher", "student", "encoder") for one in registry.components(kind)]
    takes = [one for one in models if "weights" in options_model(one).model_fields and not one.name.endswith("/auto")]
    assert len(takes) > 40
    for one in takes:
        assert validate_options(one, _least_options(one))["weights"] is None, one.name
