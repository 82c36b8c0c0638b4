"""Imports the code behind a component, and explains it when that fails."""

from __future__ import annotations

import shlex
from collections.abc import Callable
from importlib import import_module, metadata
from typing import Any

from dadkit.errors import did_you_mean
from dadkit.plugin.discovery import extra_requirements, leading_name, unmet_requirements
from dadkit.plugin.host import describe
from dadkit.plugin.records import Component, PluginError

__all__ = ["import_config", "import_target", "installed_version"]


def import_target(component: Component) -> Callable[..., Any]:
    """The class or function that builds the component.

    Raises:
        PluginError: a requirement is missing, the module cannot be imported, or it has no such callable.
    """
    target = _import(component, component.target)
    if not callable(target):
        raise PluginError(f"{component.title}: {component.target} is a {type(target).__name__}, which cannot be called")
    return target  # type: ignore[no-any-return]


def import_config(component: Component) -> type | None:
    """The class that describes the component's options, or None.

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
        # What an extra stands for says more than the distribution that has it, which is there.
        brought = [unmet_requirements(extra_requirements(text, _requirements_of), installed_version) for text in unmet]
        names = [leading_name(text) for outer, inner in zip(unmet, brought, strict=True) for text in inner or [outer]]
        have = ", ".join(f"{name} {installed_version(name) or 'is not installed'}" for name in names)
        raise PluginError(f"{component.title} needs {' and '.join(unmet)} ({have}): `pip install {shlex.join(unmet)}`")


def installed_version(name: str) -> str | None:
    """The version of an installed distribution; None if there is none of that name."""
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
