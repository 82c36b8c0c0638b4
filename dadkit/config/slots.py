"""Where a configuration names components: the fields that the schema marks with a :class:`~dadkit.config.schema.Kind`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, get_args

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from dadkit.config.schema import Kind
from dadkit.config.tree import KeyPath

__all__ = ["Slot", "find_slots", "kinds_of", "models_in", "slot_paths"]


@dataclass(frozen=True)
class Slot:
    """One place that names a component.

    Attributes:
        kinds: the kinds under which the component may be registered, in the order in which they are asked.
        path: keys from the top of the data to ``value``.
        value: the mapping that stands there, ``{"name": …, "options": …}`` when it is right.
    """

    kinds: tuple[str, ...]
    path: KeyPath
    value: dict[str, Any]


def kinds_of(field: FieldInfo) -> tuple[str, ...]:
    """The kinds of component that ``field`` may name, in the order in which they are asked; empty if it names none."""
    return next((mark.all for mark in field.metadata if isinstance(mark, Kind)), ())


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The pydantic models that an annotation speaks of: itself, a list's items, a union's members."""
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
    """The paths, without list indices, at which ``model`` names components."""
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
