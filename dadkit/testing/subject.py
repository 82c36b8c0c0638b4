"""What is checked: a component under its options, built anew as often as a check needs, with inputs that fit its kind."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch

from dadkit.testing.check import Result

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dadkit.plugin import Component, Registry

__all__ = ["Subject", "make_subject", "seeded"]


@dataclass(eq=False)
class Subject:
    """A component that is checked.

    Attributes:
        kind: its kind.
        name: what messages call it.
        factory: builds a new one.
        options: what it is built with.
        component: its registration; None for one that was given as a class or function.
        registry: where it is registered.
        size: height and width of test images; None picks a small legal size.
        invariances: what a normalizer or loss claims beyond what it declares itself: ``"scale"``, ``"shift"``.
        exportable: a depth model claims that ``torch.export`` takes it.
        results: how the checks that have run ended.
    """

    kind: str
    name: str
    factory: Callable[..., Any]
    options: Mapping[str, Any] = field(default_factory=dict)
    component: Component | None = None
    registry: Registry | None = None
    size: tuple[int, int] | None = None
    invariances: tuple[str, ...] = ()
    exportable: bool = False
    results: dict[str, Result] = field(default_factory=dict)

    def fresh(self, *, seed: int = 0, **options: Any) -> Any:
        """A new one, its random initial values drawn from ``seed``; the process's random state stays as it was.

        Args:
            seed: of the initial values.
            options: replace those of the subject.
        """
        with seeded(seed):
            return self.factory(**{**self.options, **options})

    @cached_property
    def shared(self) -> Any:
        """One for all checks that leave it as it is."""
        return self.fresh()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Random numbers of torch and Python from ``seed``; afterwards theirs and numpy's go on as if nothing had been drawn."""
    python, cpu, numpy = random.getstate(), torch.get_rng_state(), sys.modules.get("numpy")
    array_state = None if numpy is None else numpy.random.get_state()
    random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        torch.set_rng_state(cpu)
        if numpy is not None:
            numpy.random.set_state(array_state)


def make_subject(
    kind: str,
    component: str | Callable[..., Any],
    options: Mapping[str, Any] | None = None,
    *,
    registry: Registry | None = None,
    **settings: Any,
) -> Subject:
    """A component by its registered name, or a class or function that builds one.

    Args:
        kind: its kind.
        component: ``"acme/large"``, or what builds it from ``options`` as keyword arguments.
        options: as a configuration gives them.
        registry: where names are looked up; None: the process's own.
        settings: the other fields of :class:`Subject`.

    Raises:
        dadkit.plugin.PluginError: there is no such component.
        TypeError: ``component`` is neither a name nor something that can be called.
    """
    options = dict(options or {})
    if isinstance(component, str):
        from dadkit.config.components import build
        from dadkit.plugin import get_registry

        registry = registry or get_registry()
        found = registry.resolve(kind, component)

        def factory(**given: Any) -> Any:
            return build(kind, found.name, given, registry=registry)

        return Subject(kind, found.name, factory, options, found, registry, **settings)
    if not callable(component):
        raise TypeError(f"component must be a registered name, or a class or function that builds one; got {component!r}")
    name = getattr(component, "__qualname__", type(component).__qualname__)
    return Subject(kind, name, component, options, None, registry, **settings)
