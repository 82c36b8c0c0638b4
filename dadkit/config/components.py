"""Components by name: which options they take, whether given ones fit, and how they are built.

A component's options are validated by its plugin's own pydantic model, or, if it declares none, by a model made from its
target's signature. Only registered names build anything.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from dadkit.config.messages import translate
from dadkit.config.problems import ConfigError, Place, Problem
from dadkit.config.signature import SignatureError, SignatureOptions, signature_model
from dadkit.config.tree import KeyPath, Node

if TYPE_CHECKING:
    from dadkit.plugin import Component, Registry

__all__ = ["build", "check_options", "complete_options", "options_model", "validate_options"]


def build(kind: str, name: str, options: Mapping[str, Any] | None = None, *, registry: Registry | None = None) -> Any:
    """Build a component: ``target(**validated options, **the registration's fixed arguments)``.

    Args:
        kind: one of :data:`dadkit.kinds.KINDS`, for instance ``teacher`` or ``loss``.
        name: registered name, for instance ``"dav2/small"`` or ``"hybrid"``.
        options: the component's options: plain data, as YAML holds it, or Python values of the types that the target takes.
        registry: where names are looked up; None: the process's own.

    Raises:
        dadkit.plugin.PluginError: the name is unknown, or its code cannot be imported.
        ConfigError: an option is unknown, missing or wrong; all of them at once.
    """
    from dadkit.plugin import PluginError

    registry = registry or _default_registry()
    component = registry.resolve(kind, name)
    arguments = validate_options(component, options or {}, registry=registry)
    target = registry.load(component)
    try:
        return target(**{**arguments, **component.arguments})
    except ModuleNotFoundError as error:  # a package that the target imports only when it is called
        what = f"; install the one that provides '{error.name}'" if error.name else ""
        raise PluginError(f"{component.title} needs a package that is not installed: {error}{what}") from error


def options_model(component: Component, *, registry: Registry | None = None) -> type[BaseModel]:
    """The pydantic model of a component's options: its plugin's own, or one made from its target's signature.

    Raises:
        dadkit.plugin.PluginError: its code cannot be imported, or declares options that no configuration can give.
    """
    from dadkit.plugin import PluginError

    registry = registry or _default_registry()
    declared = registry.load_config(component)
    if declared is not None:
        if not issubclass(declared, BaseModel):
            raise PluginError(f"{component.title}: {component.config} is not a pydantic model")
        return declared
    try:
        return signature_model(registry.load(component), fixed=component.arguments)
    except SignatureError as error:
        raise PluginError(f"{component.title}: {error}; tell its authors to register it with arguments or a config") from error


def validate_options(component: Component, options: Mapping[str, Any], *, registry: Registry | None = None) -> dict[str, Any]:
    """The keyword arguments that ``options`` mean: validated, and converted to the types that the target takes.

    Raises:
        ConfigError: an option is unknown, missing or wrong; all of them at once.
        dadkit.plugin.PluginError: see :func:`options_model`.
    """
    tree = _tree(options, Place(0, 0, 0, f"{component.kind} '{component.name}'"))
    model = options_model(component, registry=registry)
    arguments, problems = check_options(model, tree)
    if problems:
        raise ConfigError(problems)
    return arguments


def check_options(model: type[BaseModel], tree: Node) -> tuple[dict[str, Any], list[Problem]]:
    """The keyword arguments that ``tree`` means, or what is wrong with it."""
    try:
        return _arguments(_parse(model, tree.plain())), []
    except ValidationError as error:
        return {}, translate(error.errors(include_url=False), tree, model)


def complete_options(model: type[BaseModel], options: dict[str, Any]) -> dict[str, Any]:
    """Valid ``options`` together with the defaults of those that are not given, as plain data.

    A default that does not survive the way to plain data and back (an object, a secret) is left to the component.
    """
    given = _parse(model, options)
    plain: dict[str, Any] = given.model_dump(mode="json", by_alias=True, warnings=False, fallback=lambda _: None)
    complete = dict(options)
    for field, info in model.model_fields.items():
        key = info.serialization_alias or info.alias or field
        if key in plain and key not in options:
            candidate = {**complete, key: plain[key]}
            try:
                if getattr(_parse(model, candidate), field) == getattr(given, field):
                    complete = candidate
            except ValueError:  # pydantic's ValidationError is one
                continue
    return {key: complete[key] for key in [*(key for key in plain if key in complete), *options]}


def _parse(model: type[BaseModel], options: Mapping[str, Any]) -> BaseModel:
    """Validate plain data with JSON's rules: lists become tuples, text becomes paths and enums, and nothing else is guessed."""
    try:
        text = json.dumps(options)
    except (TypeError, ValueError):  # Python values, from a caller in Python
        return model.model_validate(options, strict=False)
    return model.model_validate_json(text)


def _arguments(options: BaseModel) -> dict[str, Any]:
    """Options as keyword arguments. What a derived model was not given is left to the target's own defaults."""
    if isinstance(options, SignatureOptions):
        fields = type(options).model_fields
        given = {str(fields[field].alias): getattr(options, field) for field in fields if field in options.model_fields_set}
    else:
        given = {field: getattr(options, field) for field in type(options).model_fields}
    return {**given, **(options.model_extra or {})}


def _tree(value: Any, place: Place, path: KeyPath = ()) -> Node:
    """Python data as a tree whose every value stands at ``place``."""
    if isinstance(value, Mapping):
        return Node({str(key): _tree(item, place, (*path, str(key))) for key, item in value.items()}, place, path, place)
    if isinstance(value, list | tuple):
        return Node(tuple(_tree(item, place, (*path, index)) for index, item in enumerate(value)), place, path, place)
    return Node(value, place, path, place)


def _default_registry() -> Registry:
    from dadkit.plugin import get_registry

    return get_registry()
