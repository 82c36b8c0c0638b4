"""A registry of toy components, so that these tests need no plugins."""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from dadkit.config import RunConfig, load_run
from dadkit.config.tree import ConfigError
from dadkit.losses import GeometricLoss, SILogLoss
from dadkit.plugin import Component, PluginError, Registry
from dadkit.plugin.messages import unknown_component


class Head(enum.Enum):
    RELU = "relu"
    SOFTPLUS = "softplus"


@dataclass(frozen=True)
class Built:
    """What the toy targets return: what they were called with."""

    what: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Sampler(Built):
    """A context sampler: its patches can be counted."""

    def __call__(self, size: tuple[int, int], generator: object) -> SimpleNamespace:
        return SimpleNamespace(patches=[None] * (self.what == "local-global"))


class TinyOptions(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    width: int = Field(default=32, ge=8)
    """Channels."""
    weights: Path | None = None
    """Weights to start from."""


def tiny(**arguments: Any) -> Built:
    return Built("tiny", arguments)


def large(
    weights: Path | None = None,
    *,
    sizes: tuple[int, ...] = (280, 560),
    head: Head = Head.RELU,
    scale: float = 1.0,
    fixed: int = 0,
) -> Built:
    """A toy teacher.

    Args:
        weights: file of weights.
        sizes: sides in pixels,
            smallest first.
        head: what ends the network.
        scale: factor.
        fixed: given by the registration.
    """
    return Built("large", {"weights": weights, "sizes": sizes, "head": head, "scale": scale, "fixed": fixed})


def local_global(view_size: int = 560, patch_size: int = 560, n: int | Literal["all"] = 4) -> Sampler:
    if patch_size > view_size:
        raise ValueError(f"patch_size {patch_size} is larger than view_size {view_size}")
    return Sampler("local-global", {"view_size": view_size, "patch_size": patch_size, "n": n})


def view(view_size: int = 560) -> Sampler:
    return Sampler("view", {"view_size": view_size})


def segments(segments: tuple[int, ...] = (1, 2, 4), partition: Literal["range", "quantile", "grid"] = "range") -> Built:
    return Built("segments", {"segments": segments, "partition": partition})


def nothing() -> Built:
    return Built("nothing", {})


def chosen(space: Literal["disparity", "depth"] = "disparity") -> Built:
    return Built("chosen", {"space": space})


def pairs(root: str, split: Literal["train", "test"] = "train") -> Built:
    return Built("pairs", {"root": root, "split": split})


class Answers:
    """A dataset of what a teacher answered."""

    answered = True


def silog(lam: float = 0.85) -> Built:
    return Built("silog", {"lam": lam})


TARGETS: dict[tuple[str, str], tuple[Callable[..., Any], dict[str, Any]]] = {
    ("student", "toy/tiny"): (tiny, {"space": "disparity", "config": "TinyOptions"}),
    ("student", "toy/metric"): (tiny, {"space": "metric", "config": "TinyOptions"}),
    ("student", "toy/any"): (nothing, {}),
    ("student", "toy/chosen"): (chosen, {"space": "disparity"}),
    ("teacher", "toy/tiny"): (tiny, {"space": "disparity", "config": "TinyOptions"}),
    ("teacher", "toy/large"): (large, {"space": "disparity", "arguments": {"fixed": 7}, "aliases": ("toy/huge",)}),
    ("teacher", "toy/depth"): (large, {"space": "depth"}),
    ("teacher", "toy/metric"): (large, {"space": "metric"}),
    ("teacher", "toy/broken"): (nothing, {}),
    ("encoder", "toy/eyes"): (tiny, {"config": "TinyOptions"}),
    ("normalizer", "hybrid"): (segments, {}),
    ("normalizer", "global"): (nothing, {}),
    ("normalizer", "local"): (nothing, {}),
    ("normalizer", "none"): (nothing, {}),
    ("context", "local-global"): (local_global, {}),
    ("context", "shared"): (view, {}),
    ("context", "whole"): (view, {}),
    ("loss", "toy/silog"): (silog, {}),
    ("loss", "silog"): (SILogLoss, {}),
    ("loss", "geometric"): (GeometricLoss, {}),
    ("hook", "tensorboard"): (nothing, {}),
    ("dataset", "images"): (pairs, {}),
    ("dataset", "pairs"): (pairs, {"space": "metric"}),
    ("dataset", "procedural"): (nothing, {"space": "metric"}),
    ("dataset", "toy/answers"): (Answers, {}),
}


class ToyRegistry:
    """The part of ``dadkit.plugin.Registry`` that the configuration uses, over :data:`TARGETS`."""

    def __init__(self) -> None:
        self._components = [
            Component(
                kind=kind,
                name=name,
                target=f"toys:{name}",
                api=1,
                plugin="toy" if "/" in name else "dadkit",
                distribution="dadkit-toy",
                version="1",
                **meta,
            )
            for (kind, name), (_, meta) in TARGETS.items()
        ]

    def components(self, kind: str, pattern: str = "*") -> list[Component]:
        assert pattern == "*"
        return [component for component in self._components if component.kind == kind]

    def resolve(self, kind: str, name: str) -> Component:
        for component in self._components:
            if component.kind == kind and name in (component.name, *component.aliases):
                return component
        raise PluginError(unknown_component(kind, name, self._components))

    resolve_first = Registry.resolve_first

    def load(self, component: Component) -> Callable[..., Any]:
        if component.name == "toy/broken":
            raise PluginError(f"{component.title} needs a package that is not installed: No module named 'flash'")
        return TARGETS[component.kind, component.name][0]

    def load_config(self, component: Component) -> type | None:
        return TinyOptions if component.config == "TinyOptions" else None


@pytest.fixture(scope="session")
def registry() -> ToyRegistry:
    return ToyRegistry()


SMALL = """\
student: {name: toy/tiny}
teachers:
  - {name: toy/large}
data: {root: photos}
iterations: 10
"""


@pytest.fixture(scope="session")
def small() -> str:
    """A valid file with one stage."""
    return SMALL


@pytest.fixture
def load(tmp_path: Path, registry: ToyRegistry) -> Callable[..., RunConfig]:
    """``load(text, *overrides)``: write ``run.yaml`` and load it with the toy registry."""

    def load(text: str, *overrides: str) -> RunConfig:
        path = tmp_path / "run.yaml"
        path.write_text(text, encoding="utf-8")
        return load_run(path, overrides, registry=registry)

    return load


@pytest.fixture
def problems(load: Callable[..., RunConfig], tmp_path: Path) -> Callable[..., list[str]]:
    """``problems(text, *overrides)``: the lines that a user would see, the folder cut off; empty if all is well."""

    def problems(text: str, *overrides: str) -> list[str]:
        try:
            load(text, *overrides)
        except ConfigError as error:
            return [str(problem).replace(f"{tmp_path}/", "") for problem in error.problems]
        return []

    return problems
