"""Imports one plugin and collects what it registers, so that whatever goes wrong stays with that plugin.

pluggy supplies the hook specifications, their validation and the calls. It does not load: its loader stops at the first broken
package and drops the second owner of a name in silence. Each plugin gets a plugin manager of its own, so a plugin that fails
has never been in the same list as another and there is nothing to undo.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping
from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import pluggy

from dadkit.errors import did_you_mean
from dadkit.kinds import KINDS
from dadkit.plugin import messages
from dadkit.plugin.discovery import Found
from dadkit.plugin.hookspecs import HOOKS
from dadkit.plugin.records import Component, PluginRecord, PluginState
from dadkit.plugin.staging import RegistrationError, Stage

__all__ = ["collect", "describe", "hook_arguments", "load_plugin"]


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
        record: who it is; names and provenance of the components come from here.

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
    stage = Stage(record)
    for kind, row in KINDS.items():
        _call(manager, row.hook, hook_arguments(stage, kind))
    return stage.close()


def hook_arguments(stage: Stage, kind: str) -> dict[str, object]:
    """What the hook of a kind is called with, by name. It may grow: pluggy gives an implementation those that it names."""
    return {"register": stage.register_for(kind)}


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
