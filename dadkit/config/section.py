"""What every part of a configuration is made of, and the places in it that name components (:class:`Kind`)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field
from pydantic.fields import FieldInfo

from dadkit.config.tree import KeyPath

__all__ = ["ComponentConfig", "Kind", "Section", "Slot", "find_slots", "kinds_of", "models_in", "slot_paths"]

Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Kind:
    """Marks a field that names components: the kind (``teacher``, ``dataset``, …) under which they are registered.

    Where ``others`` are given, a name that is not registered as ``name`` is looked for among those, in their order.
    """

    name: str
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every kind, in the order in which they are asked."""
        return (self.name, *self.others)


class Section(BaseModel):
    """A part of a configuration: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ComponentConfig(Section):
    """A component by name, with the options that its own plugin defines and validates."""

    name: str
    """Registered name; `dadkit contexts`, `dadkit datasets`, … list what is installed."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the component; `dadkit config schema NAME` prints what it takes."""


@dataclass(frozen=True)
class Slot:
    """One place that names a component.

    Attributes:
        kinds: the kinds under which the component may be registered, in the order in which they are asked.
        path: keys from the top of the data to ``value``.
        value: the mapping at that place, ``{"name": …, "options": …}`` when it is right.
    """

    kinds: tuple[str, ...]
    path: KeyPath
    value: dict[str, Any]


def kinds_of(field: FieldInfo) -> tuple[str, ...]:
    """Returns the kinds of component that ``field`` may name, in the order in which they are asked; empty if it names none."""
    return next((mark.all for mark in field.metadata if isinstance(mark, Kind)), ())


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """Returns the pydantic models that an annotation speaks of: itself, a list's items, a union's members."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def find_slots(model: type[BaseModel], data: Mapping[str, Any], path: KeyPath = ()) -> Iterator[Slot]:
    """Every slot of ``data``, which has, or was meant to have, the shape of ``model``. Whatever does not fit is passed over."""
    for name, field in model.model_fields.items():
        kinds = kinds_of(field)
        for place, value in _mappings(data.get(name), (*path, name)):
            if kinds:
                yield Slot(kinds, place, value)
            else:
                for inner in models_in(field.annotation):
                    yield from find_slots(inner, value, place)


def slot_paths(model: type[BaseModel], path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yields the paths, without list indices, at which ``model`` names components."""
    for name, field in model.model_fields.items():
        if kinds_of(field):
            yield (*path, name)
        else:
            for inner in models_in(field.annotation):
                yield from slot_paths(inner, (*path, name))


def _mappings(value: Any, path: KeyPath) -> Iterator[tuple[KeyPath, dict[str, Any]]]:
    if isinstance(value, dict):
        yield path, value
    elif isinstance(value, list):
        for index, item in enumerate(value):
            if isinstance(item, dict):
                yield (*path, index), item
