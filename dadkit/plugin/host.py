"""Imports plugins' code: an entry module and what it registers, the targets behind components, and why one cannot be had.

pluggy supplies the hook specifications, their validation and the calls. It does not load: its loader stops at the first broken
package and drops the second owner of a name in silence. Each plugin gets a plugin manager of its own, so a plugin that fails
has never been in the same list as another and there is nothing to undo: whatever goes wrong stays with that plugin.
"""

from __future__ import annotations

import shlex
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from importlib import import_module, metadata
from types import ModuleType, SimpleNamespace
from typing import Any

import pluggy

from dadkit.errors import did_you_mean
from dadkit.kinds import KINDS
from dadkit.plugin import messages
from dadkit.plugin.discovery import Found, extra_requirements, leading_name, unmet_requirements
from dadkit.plugin.hookspecs import HOOKS
from dadkit.plugin.records import Component, PluginError, PluginRecord, PluginState
from dadkit.plugin.registration import Registration, RegistrationError

__all__ = ["collect", "describe", "hook_arguments", "import_config", "import_target", "installed_version", "load_plugin"]


def load_plugin(found: Found) -> PluginRecord:
    """Import a plugin and run its hooks; the answer's state is ``ok``, ``import-error`` or ``hook-error``.

    Exceptions of the plugin, and its ``SystemExit``, end up in the record; ``KeyboardInterrupt`` passes.
    """
    record = found.record
    if found.entry_point.pattern.match(found.entry_point.value) is None:
        reason = f"its entry point '{record.target}' is neither 'package.module' nor 'package.module:object'"
        return _failed(record, PluginState.IMPORT_ERROR, reason, "")
    try:
        plugin = found.entry_point.load()
    except (Exception, SystemExit) as error:
        return _failed(record, PluginState.IMPORT_ERROR, describe(error), _traceback(error))
    try:
        components = collect(plugin, record)
    except (Exception, SystemExit) as error:
        return _failed(record, PluginState.HOOK_ERROR, describe(error), _traceback(error))
    location = getattr(sys.modules.get(found.entry_point.module), "__file__", None) or record.location
    return replace(record, state=PluginState.OK, components=components, location=location)


def collect(plugin: object, record: PluginRecord) -> tuple[Component, ...]:
    """Run every hook of an imported plugin; all its components, or an exception and none.

    Args:
        plugin: the module or object that the entry point names.
        record: the plugin; names and provenance of the components come from here.

    Raises:
        RegistrationError: the hooks are misspelt, unmarked or take wrong arguments, or register something impossible.
        Exception: whatever else the plugin's own code raises.
    """
    manager = _Manager("dadkit")
    specifications: Any = SimpleNamespace(**HOOKS)
    manager.add_hookspecs(specifications)
    _check_spelling(manager, plugin)
    try:
        manager.register(plugin, name=record.name)
    except pluggy.PluginValidationError as error:
        raise RegistrationError(" ".join(str(error).split())) from error
    registration = Registration(record)
    for kind, row in KINDS.items():
        _call(manager, row.hook, hook_arguments(registration, kind))
    return registration.close()


def hook_arguments(registration: Registration, kind: str) -> dict[str, object]:
    """Returns what the hook of a kind is called with, by name. It may grow: pluggy gives an implementation those that
    it names.
    """
    return {"register": registration.register_for(kind)}


def describe(error: BaseException) -> str:
    """``"ModuleNotFoundError: No module named 'x'"``, in one line; a registration error speaks for itself."""
    text = " ".join(str(error).split())
    if isinstance(error, RegistrationError):
        return text
    if isinstance(error, SystemExit):
        return f"SystemExit: it called exit({text}) instead of leaving that to the program"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


class _Manager(pluggy.PluginManager):
    """A plugin manager that wakes no lazy attribute: ``dir`` of a module may list names that import torch when touched."""

    def parse_hookimpl_opts(self, plugin: Any, name: str) -> Any:
        if isinstance(plugin, ModuleType) and name not in vars(plugin):
            return None
        return super().parse_hookimpl_opts(plugin, name)


def _check_spelling(manager: _Manager, plugin: object) -> None:
    """Find hooks that pluggy would accept and never call: marked with a wrong name, or rightly named without the mark."""
    hooks = list(HOOKS)
    for name in sorted(dir(plugin)):
        options: Mapping[str, Any] | None = manager.parse_hookimpl_opts(plugin, name)
        if options is not None and name not in hooks and not options["optionalhook"]:
            near = did_you_mean(name, hooks, before="; ") or f"; there are {', '.join(hooks)}"
            raise RegistrationError(f"unknown hook '{name}'{near}")
        if options is None and name in hooks and callable(getattr(plugin, name)):
            raise RegistrationError(f"'{name}' is not marked as a hook; put @dadkit.hookimpl above it")


def _call(manager: _Manager, hook: str, arguments: Mapping[str, object]) -> None:
    try:
        answers = getattr(manager.hook, hook)(**arguments)
    except RegistrationError as error:
        raise RegistrationError(f"{hook}: {error}") from error
    if answers:  # a generator or a coroutine, for instance, has done nothing yet
        raise RegistrationError(f"{hook} returned {answers[0]!r}; it must call register itself and return nothing")


def _failed(record: PluginRecord, state: PluginState, reason: str, trace: str) -> PluginRecord:
    return replace(record, state=state, reason=reason, remedy=messages.remedy(state, record), traceback=trace)


def _traceback(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


def import_target(component: Component) -> Callable[..., Any]:
    """Returns the class or function that builds the component.

    Raises:
        PluginError: a requirement is missing, the module cannot be imported, or it has no such callable.
    """
    target = _import(component, component.target)
    if not callable(target):
        raise PluginError(f"{component.title}: {component.target} is a {type(target).__name__}, which cannot be called")
    return target  # type: ignore[no-any-return]


def import_config(component: Component) -> type | None:
    """Returns the class that describes the component's options, or None.

    Raises:
        PluginError: as :func:`import_target`, or what was named is not a class.
    """
    if component.config is None:
        return None
    model = _import(component, component.config)
    if not isinstance(model, type):
        raise PluginError(f"{component.title}: {component.config} is a {type(model).__name__}, not a class")
    return model


def _import(component: Component, path: str) -> Any:
    _check_requirements(component)
    module_name, _, attributes = path.partition(":")
    try:
        found: Any = import_module(module_name)
    except (Exception, SystemExit) as error:
        raise PluginError(_import_failure(component, path, error)) from error
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            near = did_you_mean(attribute, dir(found), before="; ")
            raise PluginError(f"{component.title}: {path} does not exist, {error}{near}; {_report(component)}") from error
        except (Exception, SystemExit) as error:  # a lazy attribute that imports something
            raise PluginError(_import_failure(component, path, error)) from error
    return found


def _check_requirements(component: Component) -> None:
    unmet = unmet_requirements(component.requires, installed_version, _requirements_of)
    if unmet:
        # The packages of an extra say more than the distribution that has it, which is installed.
        brought = [unmet_requirements(extra_requirements(text, _requirements_of), installed_version) for text in unmet]
        names = [leading_name(text) for outer, inner in zip(unmet, brought, strict=True) for text in inner or [outer]]
        have = ", ".join(f"{name} {installed_version(name) or 'is not installed'}" for name in names)
        raise PluginError(f"{component.title} needs {' and '.join(unmet)} ({have}): `pip install {shlex.join(unmet)}`")


def installed_version(name: str) -> str | None:
    """Returns the version of an installed distribution; None if there is none of that name."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _requirements_of(name: str) -> list[str]:
    try:
        return metadata.requires(name) or []
    except metadata.PackageNotFoundError:
        return []


def _import_failure(component: Component, path: str, error: BaseException) -> str:
    module_name = path.partition(":")[0]
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    if missing is None:
        return (
            f"{component.title} cannot be imported: {describe(error)}; `python -c 'import {module_name}'` prints the "
            f"traceback; {_report(component)}"
        )
    if missing.partition(".")[0] == module_name.partition(".")[0]:
        return f"{component.title} cannot be imported, a part of its own package is missing: {error}; {_report(component)}"
    return f"{component.title} needs a package that is not installed: {error}; install the one that provides '{missing}'"


def _report(component: Component) -> str:
    return f"upgrade {component.distribution}, or tell its authors"
