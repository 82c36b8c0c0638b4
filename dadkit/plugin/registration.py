"""The ``register`` that hooks receive: it checks what a plugin says, and shows nothing before all of it has proved good."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from dadkit.errors import did_you_mean
from dadkit.plugin.discovery import NAME_PATTERN, unmet_requirements
from dadkit.plugin.records import CORE, Component, PluginRecord
from dadkit.spaces import Space

__all__ = ["SUPPORTED_APIS", "Registration", "RegistrationError"]

SUPPORTED_APIS = (1, 2)
"""Versions of the component contract (``dadkit.interfaces`` and the hooks' meaning) that this dadkit can drive."""

_TARGET = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*(\.[A-Za-z_]\w*)*")
_PLAIN = (type(None), bool, int, float, str)


class RegistrationError(ValueError):
    """A plugin registered something that cannot be right; a fault of the plugin, reported as ``hook-error``."""


class Registration:
    """What one plugin has registered so far, not yet visible to anything else."""

    def __init__(self, record: PluginRecord) -> None:
        self.record = record
        self._components: list[Component] = []
        self._taken: set[tuple[str, str]] = set()
        self._is_open = True

    def register_for(self, kind: str) -> Registrar:
        """Returns the ``register`` for the hook of one kind."""
        return Registrar(self, kind)

    def close(self) -> tuple[Component, ...]:
        """Returns everything that was registered; later registrations are refused."""
        self._is_open = False
        return tuple(self._components)

    def qualified(self, name: str) -> str:
        """Returns what users write for a component that the plugin calls ``name``; one with the plugin's own name needs no
        prefix.
        """
        return name if self.record.name in (CORE, name) else f"{self.record.name}/{name}"

    def add(self, component: Component) -> None:
        """Keep one component.

        Raises:
            RegistrationError: its hooks have returned, or one of the component's names is taken.
        """
        if not self._is_open:
            raise RegistrationError("register was called after its hook had returned; call it inside the hook")
        for name in (component.name, *component.aliases):
            if (component.kind, name) in self._taken:
                raise RegistrationError(f"{component.kind} '{name}' is registered twice; nothing overrides, so rename one")
            self._taken.add((component.kind, name))
        self._components.append(component)


class Registrar:
    """``register`` for one kind of component; see :mod:`dadkit.plugin.hookspecs` for its arguments."""

    def __init__(self, registration: Registration, kind: str) -> None:
        self._registration = registration
        self._kind = kind

    def __call__(
        self,
        name: str,
        target: str,
        *,
        api: int,
        summary: str = "",
        space: str | None = None,
        size_multiple: int | None = None,
        license: str | None = None,
        config: str | None = None,
        arguments: Mapping[str, Any] | None = None,
        requires: Sequence[str] = (),
        aliases: Sequence[str] = (),
        **unknown: Any,
    ) -> None:
        for key in unknown:
            near = did_you_mean(key, _KEYWORDS, before="; ") or f"; it has {', '.join(_KEYWORDS)}"
            raise RegistrationError(f"register has no argument '{key}'{near}")
        _check_name("name", name)
        what = f"{self._kind} '{name}'"
        _check_api(what, api)
        former = _texts(what, "aliases", aliases)
        for alias in former:
            _check_name("an alias", alias)
        record = self._registration.record
        self._registration.add(
            Component(
                kind=self._kind,
                name=self._registration.qualified(name),
                target=_import_path(what, "target", target),
                api=api,
                plugin=record.name,
                distribution=record.distribution,
                version=record.version,
                summary=_text(what, "summary", summary),
                space=None if space is None else _space(what, space),
                size_multiple=_size_multiple(what, size_multiple),
                license=None if license is None else _text(what, "license", license),
                config=None if config is None else _import_path(what, "config", config),
                arguments=_plain_arguments(what, {} if arguments is None else arguments),
                requires=_requirements(what, requires),
                aliases=tuple(self._registration.qualified(alias) for alias in former),
            )
        )


_KEYWORDS = tuple(key for key in Registrar.__call__.__annotations__ if key not in {"unknown", "return", "name", "target"})


def _check_name(role: str, name: object) -> None:
    if not isinstance(name, str) or not NAME_PATTERN.fullmatch(name):
        raise RegistrationError(f"{role} {name!r} must be lower case text like 'depth-x-large' ({NAME_PATTERN.pattern})")


def _check_api(what: str, api: object) -> None:
    if isinstance(api, bool) or not isinstance(api, int):
        raise RegistrationError(f"{what}: api must be the number of the component contract, {SUPPORTED_APIS[-1]}, got {api!r}")
    if api not in SUPPORTED_APIS:
        known = ", ".join(map(str, SUPPORTED_APIS))
        older = "dadkit" if api > SUPPORTED_APIS[-1] else "the plugin"
        raise RegistrationError(f"{what} is written for api={api}, this dadkit drives {known}; upgrade {older}")


def _text(what: str, key: str, value: object) -> str:
    if not isinstance(value, str) or "\n" in value:
        raise RegistrationError(f"{what}: {key} must be one line of text, got {value!r}")
    return value


def _texts(what: str, key: str, values: object) -> tuple[str, ...]:
    if isinstance(values, str) or not isinstance(values, Sequence):
        raise RegistrationError(f"{what}: {key} must be a list of texts, got {values!r}")
    return tuple(_text(what, f"each of {key}", value) for value in values)


def _import_path(what: str, key: str, value: object) -> str:
    if not isinstance(value, str) or not _TARGET.fullmatch(value):
        raise RegistrationError(
            f"{what}: {key} must be text of the form 'package.module:Name', which is imported only when needed; got {value!r}"
        )
    return value


def _space(what: str, value: object) -> str:
    spaces = [str(space) for space in Space]
    if value not in spaces:
        near = did_you_mean(str(value), spaces, before="; ")
        raise RegistrationError(f"{what}: space {value!r} is none of {', '.join(spaces)}{near}")
    return str(value)


def _size_multiple(what: str, value: object) -> int | None:
    if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
        raise RegistrationError(f"{what}: size_multiple must be a whole number of at least 1, got {value!r}")
    return value


def _plain_arguments(what: str, arguments: object) -> dict[str, Any]:
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) and key.isidentifier() for key in arguments):
        raise RegistrationError(f"{what}: arguments must map names of the target's arguments to values, got {arguments!r}")
    for key, value in arguments.items():
        if not _is_plain(value):
            raise RegistrationError(f"{what}: argument '{key}' must be plain data (numbers, text, lists, maps), got {value!r}")
    return deepcopy(dict(arguments))


def _is_plain(value: object) -> bool:
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_plain(item) for key, item in value.items())
    return isinstance(value, _PLAIN)


def _requirements(what: str, requires: object) -> tuple[str, ...]:
    texts = _texts(what, "requires", requires)
    try:
        unmet_requirements(texts, lambda _: None)
    except ValueError as error:
        raise RegistrationError(f"{what}: {error}") from error
    return texts
