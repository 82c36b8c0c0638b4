"""What is checked: a component under its options, built anew as often as a check needs, inputs that fit it, and its answers."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dadkit.data import SampleError
from dadkit.testing.check import Result
from dadkit.testing.maps import make_pair

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dadkit.plugin import Component, Registry

__all__ = [
    "IMAGE_SIZES",
    "Subject",
    "answers_to",
    "exercise",
    "images",
    "inputs_for",
    "is_close",
    "legal_size",
    "make_subject",
    "seeded",
    "spread",
]


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
        """Returns a new one, its random initial values drawn from ``seed``; the process's random state stays as it was.

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
    """Returns a component by its registered name, or a class or function that builds one.

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


IMAGE_SIZES = ((480, 640), (640, 480), (900, 700), (1200, 1600), (333, 517))
"""Heights and widths of photographs that context samplers are asked about."""

_LEAST_SIDE = 48


def legal_size(subject: Subject) -> tuple[int, int]:
    """Returns a small height and width that the network takes, different from each other so that nothing can be transposed."""
    if subject.size is not None:
        return subject.size
    multiple = subject.shared.spec.size_multiple
    side = max(1, -(-_LEAST_SIDE // multiple)) * multiple
    return side, side + max(multiple, 16) // multiple * multiple


def images(size: tuple[int, int], *, batch: int = 2, seed: int = 0) -> Tensor:
    """(B, 3, H, W) in [0, 1]: smooth pictures with some noise, each of its own brightness."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 4, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    gain = torch.linspace(0.5, 0.9, batch).view(-1, 1, 1, 1)
    return (gain * smooth + 0.1 * torch.rand(smooth.shape, generator=generator)).clamp(0, 1)


def inputs_for(subject: Subject, *, seed: int = 0) -> tuple[Tensor, ...]:
    """Returns what a component of the subject's kind is called with: images, or a prediction, a target and a mask."""
    if subject.kind in {"teacher", "student", "encoder"}:
        return (images(legal_size(subject), batch=3, seed=seed),)
    return make_pair(seed, batch=3)


def answers_to(subject: Subject, instance: Any, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """Returns what ``instance`` answers, in a fixed order, without gradient; models in eval mode."""
    if isinstance(instance, torch.nn.Module):
        instance.eval()
    with torch.no_grad():
        answer = instance(*inputs)
    if subject.kind in {"teacher", "student"}:
        return [answer.depth, *(answer.features[name] for name in sorted(answer.features))]
    if subject.kind == "encoder":
        return [answer[name] for name in sorted(answer)]
    return list(answer) if isinstance(answer, tuple | list) else [answer]


def exercise(subject: Subject, instance: Any) -> Any:
    """Use ``instance`` once, as dadkit would."""
    if subject.kind == "context":
        return [instance(size, torch.Generator().manual_seed(0)) for size in IMAGE_SIZES]
    if subject.kind == "dataset":
        return [_read(instance, index) for index in range(min(3, len(instance)))]
    return answers_to(subject, instance, inputs_for(subject))


def _read(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except SampleError:
        return None


def spread(x: Tensor) -> float:
    """Returns the largest magnitude among finite values, at least a tiny number: what tolerances are relative to."""
    finite = x[x.isfinite()].double().abs()
    return max(float(finite.max()) if finite.numel() else 0.0, 1e-12)


def is_close(found: Tensor, wanted: Tensor, *, tolerance: float) -> bool:
    """True if the two agree to ``tolerance`` of their magnitude, NaN and infinity in the same places."""
    if found.shape != wanted.shape:
        return False
    if found.dtype == torch.bool:
        return bool(torch.equal(found, wanted))
    found, wanted = found.double(), wanted.double()
    limit = tolerance * spread(wanted)
    return bool(torch.isclose(found, wanted, rtol=0.0, atol=limit, equal_nan=True).all())
