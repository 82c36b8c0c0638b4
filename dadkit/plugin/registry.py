"""The registry: component names in, components out, loading as few plugins as the question needs."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dadkit._version import __version__
from dadkit.plugin import builtins, messages
from dadkit.plugin.discovery import Found, find_plugins
from dadkit.plugin.hookspecs import KINDS
from dadkit.plugin.host import collect, load_plugin
from dadkit.plugin.records import CORE, Component, PluginError, PluginRecord, PluginState
from dadkit.plugin.targets import import_config, import_target

__all__ = ["Registry", "get_registry"]

_DISABLE_VARIABLE = "DADKIT_DISABLE_PLUGINS"


class Registry:
    """All installed plugins and their components.

    Creating one reads the metadata of the installed distributions and imports no plugin. A plugin is imported when a component
    with its prefix is named, or when something asks for all.

    Args:
        distributions: where to look for plugins, in the order of ``sys.path``; None: everything that is installed.
        version: the version of dadkit that plugins' requirements are held against.
        disabled: names or patterns (``*``) of plugins to leave alone; None: the environment variable
            ``DADKIT_DISABLE_PLUGINS``, separated by commas.
    """

    def __init__(
        self,
        distributions: Iterable[metadata.Distribution] | None = None,
        *,
        version: str = __version__,
        disabled: Iterable[str] | None = None,
    ) -> None:
        if distributions is None:
            distributions = metadata.distributions()
        if disabled is None:
            disabled = [name.strip() for name in os.environ.get(_DISABLE_VARIABLE, "").split(",")]
        self._found: dict[str, Found] = find_plugins(distributions, version=version, disabled=disabled)
        self._records: dict[str, PluginRecord] = {name: found.record for name, found in self._found.items()}
        core = PluginRecord(CORE, "dadkit.plugin.builtins", CORE, version, str(Path(__file__).parents[1]))
        self._core: tuple[Component, ...] = collect(builtins, core)

    def plugins(self, *, load: bool = False) -> list[PluginRecord]:
        """Every installed plugin, by name.

        Args:
            load: import those that were only found so far; otherwise no plugin code runs.
        """
        return [self._loaded(name) if load else record for name, record in list(self._records.items())]

    def plugin(self, name: str, *, load: bool = True) -> PluginRecord:
        """One plugin, by default imported.

        Raises:
            PluginError: no distribution claims the name.
        """
        if name not in self._records:
            raise PluginError(messages.unknown_plugin(name, self._records))
        return self._loaded(name) if load else self._records[name]

    def components(self, kind: str, pattern: str = "*") -> list[Component]:
        """The usable components of a kind whose name matches ``pattern``.

        The core's come first, then plugin after plugin by name; within one the order is its own (small before large, say).

        Args:
            kind: one of ``teacher``, ``student``, ``normalizer``, ``context``, ``loss``, ``dataset``.
            pattern: shell pattern over qualified names; ``acme/*`` imports plugin ``acme`` only.
        """
        _check_kind(kind)
        prefix, slash, _ = pattern.partition("/")
        plugins = [self._loaded(name) for name in self._records if not slash or fnmatchcase(name, prefix)]
        everything = [*self._core, *(component for record in plugins for component in record.components)]
        return [component for component in everything if component.kind == kind and fnmatchcase(component.name, pattern)]

    def resolve(self, kind: str, name: str) -> Component:
        """The component of this kind and name; imports the plugin before the slash, and no other.

        Args:
            kind: one of ``teacher``, ``student``, ``normalizer``, ``context``, ``loss``, ``dataset``.
            name: qualified name, ``"acme/large"``, or the core's own, ``"hybrid"``.

        Raises:
            PluginError: there is no such component, or its plugin cannot be used; the message says why and what to do.
        """
        _check_kind(kind)
        prefix, slash, _ = name.partition("/")
        candidates = self._components_of(kind, name, prefix) if slash else self._core
        for component in candidates:
            if component.kind == kind and component.name == name:
                return component
        for component in candidates:
            if component.kind == kind and name in component.aliases:
                message = f"'{name}' is a former name of {component.title}; write '{component.name}'"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                return component
        raise PluginError(messages.unknown_component(kind, name, candidates))

    def load(self, component: Component) -> Callable[..., Any]:
        """Import a component's target: the class or function that builds it.

        Raises:
            PluginError: a requirement is missing, the module cannot be imported or has no such attribute.
        """
        return import_target(component)

    def load_config(self, component: Component) -> type | None:
        """Import the pydantic model of a component's options; None if it declares none.

        Raises:
            PluginError: as for :meth:`load`, or it is not a class.
        """
        return import_config(component)

    def _components_of(self, kind: str, name: str, prefix: str) -> tuple[Component, ...]:
        if prefix not in self._records:
            raise PluginError(f"{kind} '{name}': {messages.unknown_plugin(prefix, self._records)}")
        record = self._loaded(prefix)
        if record.state is not PluginState.OK:
            raise PluginError(messages.failed_plugin(kind, name, record))
        return record.components

    def _loaded(self, name: str) -> PluginRecord:
        record = self._records[name]
        if record.state is PluginState.FOUND:
            record = self._records[name] = load_plugin(self._found[name])
        return record


@cache
def get_registry() -> Registry:
    """The process's registry, made at the first call; ``get_registry.cache_clear()`` forgets it."""
    return Registry()


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
