"""The registry: component names in, components out, loading as few plugins as the question needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from dadkit._version import __version__
from dadkit.kinds import KINDS
from dadkit.plugin import builtins, messages
from dadkit.plugin.discovery import STRICT_VARIABLE, Found, find_file, find_plugins, is_strict, switched_off
from dadkit.plugin.host import collect, import_config, import_target, load_plugin
from dadkit.plugin.records import CORE, LOCAL, Component, PluginError, PluginRecord, PluginState

__all__ = ["Registry", "get_registry", "use_registry"]


class Registry:
    """All installed plugins and their components.

    Creating one reads the metadata of the installed distributions and imports no plugin. A plugin is imported when a component
    with its prefix is named, or when something asks for all.

    Args:
        distributions: where to look for plugins, in the order of ``sys.path``; None: everything that is installed.
        version: the version of dadkit that plugins' requirements are held against.
        disabled: names or patterns (``*``) of plugins to leave alone; None: what ``dadkit plugins disable`` wrote down and the
            environment variable ``DADKIT_DISABLE_PLUGINS`` names, separated by commas.
        strict: refuse to give any component as long as a plugin is broken; None: the variable ``DADKIT_STRICT_PLUGINS``.
    """

    def __init__(
        self,
        distributions: Iterable[metadata.Distribution] | None = None,
        *,
        version: str = __version__,
        disabled: Iterable[str] | Mapping[str, str] | None = None,
        strict: bool | None = None,
    ) -> None:
        if distributions is None:
            distributions = metadata.distributions()
        if disabled is None:
            disabled = switched_off()
        self._file: Path | None = None
        self._strict = is_strict() if strict is None else strict
        self._found: dict[str, Found] = find_plugins(distributions, version=version, disabled=disabled)
        self._records: dict[str, PluginRecord] = {name: found.record for name, found in self._found.items()}
        core = PluginRecord(CORE, "dadkit.plugin.builtins", CORE, version, str(Path(__file__).parents[1]))
        self._core: tuple[Component, ...] = collect(builtins, core)

    def plugins(self, *, load: bool = False) -> list[PluginRecord]:
        """Returns every installed plugin, by name.

        Args:
            load: import those that were only found so far; otherwise no plugin code runs.
        """
        return [self._loaded(name) if load else record for name, record in list(self._records.items())]

    def plugin(self, name: str, *, load: bool = True) -> PluginRecord:
        """Returns one plugin, by default imported.

        Raises:
            PluginError: no distribution claims the name.
        """
        if name not in self._records:
            raise PluginError(messages.unknown_plugin(name, self._records))
        return self._loaded(name) if load else self._records[name]

    def components(self, kind: str, pattern: str = "*") -> list[Component]:
        """Returns the usable components of a kind whose name matches ``pattern``.

        In strict mode every plugin is imported, and a broken one is an error.

        The core's come first, then plugin after plugin by name; within one the order is its own (small before large, say).

        Args:
            kind: one of :data:`dadkit.kinds.KINDS`.
            pattern: shell pattern over qualified names; ``acme/*`` imports plugin ``acme`` only.
        """
        _check_kind(kind)
        self._insist()
        prefix, slash, _ = pattern.partition("/")
        plugins = [self._loaded(name) for name in self._records if not slash or fnmatchcase(name, prefix)]
        everything = [*self._core, *(component for record in plugins for component in record.components)]
        return [one for one in everything if one.kind == kind and any(fnmatchcase(name, pattern) for name in one.spellings)]

    def resolve(self, kind: str, name: str) -> Component:
        """Returns the component of this kind and name; imports the plugin before the slash, and no other.

        Args:
            kind: one of :data:`dadkit.kinds.KINDS`.
            name: qualified name, ``"acme/large"``, or the core's own, ``"hybrid"``. A component with its plugin's own name
                needs no prefix: ``"procedural"`` is ``"procedural/procedural"``, unless the core has that kind and name itself.

        Raises:
            PluginError: there is no such component, or its plugin cannot be used; the message says why and what to do. In
                strict mode, any plugin cannot be used.
        """
        _check_kind(kind)
        self._insist()
        prefix, slash, _ = name.partition("/")
        if slash:
            candidates = self._components_of(kind, name, prefix)
        else:
            candidates = self._core
            if prefix in self._records and not any((one.kind, one.name) == (kind, name) for one in candidates):
                candidates += tuple(one for one in self._components_of(kind, name, prefix) if one.name == name)
        for component in candidates:
            if component.kind == kind and name in component.spellings:
                return component
        for component in candidates:
            if component.kind == kind and name in component.aliases:
                message = f"'{name}' is a former name of {component.title}; write '{component.name}'"
                warnings.warn(message, DeprecationWarning, stacklevel=2)
                return component
        elsewhere = [] if slash else [component.name for component in self.components(kind)]
        raise PluginError(messages.unknown_component(kind, name, candidates, elsewhere))

    def resolve_first(self, kinds: Sequence[str], name: str) -> Component:
        """Returns the component of this name in the first of ``kinds`` that has it; otherwise as :meth:`resolve`.

        Raises:
            PluginError: no kind has it; the message is that of the kind that knows a near miss, or what each says.
        """
        failures: list[str] = []
        for kind in kinds:
            try:
                return self.resolve(kind, name)
            except PluginError as error:
                failures.append(str(error))
        alike = {text.removeprefix(f"{kind} '{name}': ") for kind, text in zip(kinds, failures, strict=True)}
        if len(kinds) > 1 and len(alike) == 1 and failures[0] not in alike:
            # the plugin is not there: one message for all kinds
            raise PluginError(f"{' or '.join(kinds)} '{name}': {alike.pop()}")
        raise PluginError(next((message for message in failures if "did you mean" in message), "; ".join(failures)))

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

    def use_file(self, path: str | Path) -> PluginRecord:
        """Make a Python file with hooks the plugin ``local``, and import it.

        Args:
            path: ``./my_teacher.py``; its targets are written ``"my_teacher:MyTeacher"``.

        Raises:
            PluginError: no such file, another one is in use already, or it is broken; the message says why.
        """
        found = find_file(path)
        if self._found.get(LOCAL, found).record != found.record:
            raise PluginError(f"--plugin takes one file, and {self._found[LOCAL].record.distribution} is in use already")
        self._found[LOCAL], self._records[LOCAL] = found, found.record
        record = self._loaded(LOCAL)
        if record.state is not PluginState.OK:
            raise PluginError(f"{messages.failure(record)}\n{record.traceback}".rstrip())
        self._file = Path(path).expanduser().resolve()
        return record

    @property
    def file(self) -> Path | None:
        """The file that is the plugin ``local``, for processes that must use it too; None if there is none."""
        return self._file

    def versions_in_use(self) -> dict[str, str]:
        """Distribution -> version of dadkit and of every plugin that was imported for something so far."""
        used = {record.distribution: record.version for record in self._records.values() if record.state is PluginState.OK}
        return {CORE: __version__, **used}

    def _insist(self) -> None:
        """In strict mode: import every plugin, and raise PluginError if one is broken."""
        if not self._strict:
            return
        broken = [record for record in self.plugins(load=True) if record.state.is_failure]
        if broken:
            reasons = "; ".join(messages.failure(record) for record in broken)
            raise PluginError(f"{STRICT_VARIABLE} is set, so every broken plugin is an error: {reasons}")
        self._strict = False  # all are imported and in order: nothing to insist on any more

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
def _process_registry() -> Registry:
    return Registry()


_instead: list[Registry] = []


def get_registry() -> Registry:
    """Returns the process's registry, made at the first call, or the one that :func:`use_registry` puts in its place."""
    return _instead[-1] if _instead else _process_registry()


@contextmanager
def use_registry(registry: Registry) -> Iterator[Registry]:
    """Inside the block, :func:`get_registry` answers with ``registry``: for tests, and for tools that look elsewhere."""
    _instead.append(registry)
    try:
        yield registry
    finally:
        _instead.pop()


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
