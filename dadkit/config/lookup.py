"""The components that a run names: found, their options checked and completed, their mistakes located."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel

from dadkit.config.components import check_options, complete_options, options_model
from dadkit.config.problems import Problem
from dadkit.config.schema import RunConfig
from dadkit.config.slots import Slot, find_slots
from dadkit.config.tree import Node

if TYPE_CHECKING:
    from dadkit.plugin import Component, PluginError, Registry

__all__ = ["Components"]

# Built once while checking, since they are light by contract and know best which options go together.
_LIGHT = frozenset({"context", "normalizer"})


class Components:
    """The registry, asked once a component; it remembers why a component cannot be used.

    Args:
        registry: where names are looked up; None: the process's own.
    """

    def __init__(self, registry: Registry | None) -> None:
        from dadkit.plugin import get_registry

        self._registry = registry or get_registry()
        self._components: dict[tuple[tuple[str, ...], str], Component | PluginError] = {}
        self._models: dict[tuple[tuple[str, ...], str], type[BaseModel] | PluginError] = {}

    def find(self, kind: str, name: str) -> Component | None:
        """The component, or None where there is no such thing."""
        found = self._resolve((kind,), name)
        return None if isinstance(found, Exception) else found

    def complete(self, data: dict[str, Any], run: Node) -> list[Problem]:
        """Check every component that ``data`` names and complete its options, in place.

        Args:
            data: plain data of the shape of :class:`RunConfig`, as far as it is valid.
            run: the tree that ``data`` comes from, for the places.
        """
        problems: list[Problem] = []
        for slot in find_slots(RunConfig, data):
            name = slot.value.get("name")
            if isinstance(name, str) and isinstance(slot.value.get("options", {}), dict):
                problems += self._complete(slot, name, run)
        return problems

    def _complete(self, slot: Slot, name: str, run: Node) -> list[Problem]:
        at_name = run.nearest((*slot.path, "name"))
        component, model = self._resolve(slot.kinds, name), self._model(slot.kinds, name)
        if isinstance(component, Exception):
            return [at_name.problem(str(component))]
        if isinstance(model, Exception):
            return [at_name.problem(str(model))]
        tree = run.find((*slot.path, "options"))
        if tree is None or tree.mapping is None:
            tree = Node({}, at_name.place, (*run.nearest(slot.path).path, "options"))
        arguments, problems = check_options(model, tree)
        if problems:
            return [replace(problem, message=problem.message + _whose(slot, at_name, tree, run)) for problem in problems]
        if component.kind in _LIGHT:
            try:
                self._registry.load(component)(**{**arguments, **component.arguments})
            except (TypeError, ValueError) as error:
                return [tree.problem(str(error))]
        slot.value["name"] = component.name  # a former name (alias) is written down as the present one
        slot.value["options"] = complete_options(model, slot.value.get("options", {}))
        return []

    def _resolve(self, kinds: tuple[str, ...], name: str) -> Component | PluginError:
        from dadkit.plugin import PluginError

        if (kinds, name) not in self._components:
            try:
                self._components[kinds, name] = self._registry.resolve_first(kinds, name)
            except PluginError as error:
                self._components[kinds, name] = error
        return self._components[kinds, name]

    def _model(self, kinds: tuple[str, ...], name: str) -> type[BaseModel] | PluginError:
        from dadkit.plugin import PluginError

        component = self._resolve(kinds, name)
        if isinstance(component, PluginError):
            return component
        if (kinds, name) not in self._models:
            try:
                self._models[kinds, name] = options_model(component, registry=self._registry)
                self._registry.load(component)  # a missing package is to be known now, not after the first stage
            except PluginError as error:
                self._models[kinds, name] = error
        return self._models[kinds, name]


def _whose(slot: Slot, name: Node, options: Node, run: Node) -> str:
    """What to say of wrong options that the file meant for another component than an override names."""
    if not name.place.order or options.place.order:
        return ""
    whole = f"{run.nearest(slot.path).dotted}={{name: {name.value}}}"
    return f" (the file gives these options to another component; the override '{whole}' takes this one without them)"
