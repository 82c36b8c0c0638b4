"""Components by name: which options they take, whether given ones fit, and how they are built.

A component's options are validated by its plugin's own pydantic model. A component that declares none gets a model made from
its target's signature: types from the annotations, defaults from the parameters, descriptions from the ``Args:`` section of the
docstring. Only registered names build anything.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import replace
from functools import cache, reduce
from operator import or_
from types import SimpleNamespace, UnionType
from typing import TYPE_CHECKING, Any, ClassVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

from dadkit.config.messages import translate
from dadkit.config.schema import RunConfig
from dadkit.config.sections import Slot, find_slots
from dadkit.config.tree import ConfigError, KeyPath, Node, Place, Problem

if TYPE_CHECKING:
    from dadkit.plugin import Component, PluginError, Registry

__all__ = [
    "Components",
    "SignatureError",
    "SignatureOptions",
    "build",
    "check_options",
    "complete_options",
    "options_model",
    "signature_model",
    "validate_options",
]


class SignatureError(TypeError):
    """A target needs an argument that no configuration can give."""


class SignatureOptions(BaseModel):
    """Base of the derived models. Fields are called by their aliases, the parameters' names, which may be any identifier."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    removed_options: ClassVar[Mapping[str, Any]] = {}
    """Options of earlier versions that are dropped where they have this value."""


class _Unwritable:
    """Stands for a type that YAML cannot hold: a tensor, a module, a function."""


def signature_model(target: Callable[..., Any], *, fixed: Collection[str] = ()) -> type[SignatureOptions]:
    """Returns a model with one field a keyword that ``target`` takes.

    Args:
        target: class or function.
        fixed: keywords that are given elsewhere and so are no options.

    Returns:
        The model. ``**kwargs`` in the signature lets unknown options pass; a parameter with a default whose type YAML cannot
        hold is left out. Options that ``target.removed_options`` names, with the value that it names, pass and are dropped.

    Raises:
        SignatureError: a required parameter is positional-only, or its type cannot be written in YAML.
    """
    title = getattr(target, "__qualname__", type(target).__qualname__)
    try:
        parameters = inspect.signature(target).parameters
    except ValueError:  # written in C, without a signature
        return create_model(title, __base__=_Open)
    described = _descriptions(target)
    types = _types(target, parameters)
    base: type[SignatureOptions] = SignatureOptions
    fields: dict[str, Any] = {}
    for name, parameter in parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            base = _Open
        if name in fixed or parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        annotation = types[name]
        required = parameter.default is parameter.empty
        only_positional = parameter.kind is parameter.POSITIONAL_ONLY
        if only_positional or annotation is _Unwritable:
            if required:
                why = "is positional-only" if only_positional else "has a type that YAML cannot hold"
                raise SignatureError(f"{title}'s parameter '{name}' is required but {why}")
            continue
        # Implicitly optional parameters, `size: int = None`, are common in this field.
        annotation = annotation | None if parameter.default is None and annotation is not Any else annotation
        fields[f"option_{len(fields)}"] = (annotation, _field(target, name, parameter, described.get(name)))
    model = create_model(title, __base__=base, **fields)
    model.removed_options = getattr(target, "removed_options", {})
    return model


class _Open(SignatureOptions):
    model_config = ConfigDict(extra="allow")


def _field(target: Any, name: str, parameter: inspect.Parameter, description: str | None) -> FieldInfo:
    about: dict[str, Any] = {"alias": name, "description": description, "title": name}
    if dataclasses.is_dataclass(target):
        for item in dataclasses.fields(target):
            if item.name == name and item.default_factory is not dataclasses.MISSING:
                return Field(default_factory=item.default_factory, **about)  # type: ignore[no-any-return]
    default = ... if parameter.default is parameter.empty else parameter.default
    return Field(default, **about)  # type: ignore[no-any-return]


def _types(target: Any, parameters: Mapping[str, inspect.Parameter]) -> dict[str, Any]:
    """Returns the parameters' types: Any without an annotation, ``_Unwritable`` where YAML cannot hold one."""
    function = inspect.unwrap(getattr(target, "__init__") if isinstance(target, type) else target)  # noqa: B009
    module = sys.modules.get(getattr(target, "__module__", ""), None)
    names = getattr(function, "__globals__", None) or vars(module or SimpleNamespace())
    return {name: _type(parameter.annotation, names) for name, parameter in parameters.items()}


def _type(annotation: Any, names: dict[str, Any]) -> Any:
    if annotation is inspect.Parameter.empty:
        return Any
    try:
        # One at a time: an annotation that only exists for type checkers must not spoil the others.
        resolved = get_type_hints(SimpleNamespace(__annotations__={"it": annotation}), names, include_extras=True)["it"]
    except (NameError, AttributeError, TypeError):
        return _Unwritable
    return _writable(resolved)


def _writable(annotation: Any) -> Any:
    """``annotation`` without the members of a union that YAML cannot hold."""
    if get_origin(annotation) in (Union, UnionType):
        kept = [member for member in map(_writable, get_args(annotation)) if member is not _Unwritable]
        only_none = all(member is type(None) for member in kept)
        return _Unwritable if only_none else reduce(or_, kept)
    return annotation if _has_schema(annotation) else _Unwritable


def _has_schema(annotation: Any) -> bool:
    try:
        TypeAdapter(annotation)
    except (PydanticUserError, NameError):
        return False
    return True


@cache
def _descriptions(target: Any) -> dict[str, str]:
    """Parameter -> its text in the ``Args:`` (or ``Attributes:``) section of the docstring."""
    texts = [inspect.getdoc(target) or "", inspect.getdoc(getattr(target, "__init__", None)) or ""]
    found: dict[str, str] = {}
    for text in texts:
        for section in re.findall(r"^(?:Args|Attributes):\n((?:[ \t]+.*\n?|\n)*)", text, re.MULTILINE):
            for names, about in _entries(section):
                found.update({name.strip().lstrip("*"): about for name in names.split(",") if name.strip() not in found})
    return found


def _entries(section: str) -> list[tuple[str, str]]:
    """``    name: text`` entries, with continuation lines joined."""
    lines = [line for line in section.splitlines() if line.strip()]
    indent = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    entries: list[tuple[str, str]] = []
    for line in lines:
        head = re.match(r"([\w*, ]+?)(?: \([^)]*\))?: (.*)", line.strip())
        if len(line) - len(line.lstrip()) == indent and head:
            entries.append((head[1], head[2]))
        elif entries:
            entries[-1] = (entries[-1][0], f"{entries[-1][1]} {line.strip()}")
    return entries


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
    """Returns the pydantic model of a component's options: its plugin's own, or one made from its target's signature.

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
    """Returns the keyword arguments that ``options`` mean: validated, and converted to the types that the target takes.

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
    """Returns the keyword arguments that ``tree`` means, or what is wrong with it."""
    try:
        return _arguments(_parse(model, tree.plain())), []
    except ValidationError as error:
        return {}, translate(error.errors(include_url=False), tree, model)


def complete_options(model: type[BaseModel], options: dict[str, Any]) -> dict[str, Any]:
    """Valid ``options`` together with the defaults of those that are not given, as plain data.

    A default that does not survive the way to plain data and back (an object, a secret) is left to the component.
    """
    return _with_defaults(_parse(model, options), options)


def _with_defaults(given: BaseModel, options: dict[str, Any]) -> dict[str, Any]:
    """Returns ``options`` with the defaults of ``given``, which is what they were parsed to."""
    plain: dict[str, Any] = given.model_dump(mode="json", by_alias=True, warnings=False, fallback=lambda _: None)
    fields = {info.serialization_alias or info.alias or name: name for name, info in type(given).model_fields.items()}
    complete = dict(options)

    def try_out(keys: list[str]) -> bool:
        """Take over the defaults of ``keys`` if the component understands them as it did before."""
        candidate = complete | {key: plain[key] for key in keys}
        try:
            again = _parse(type(given), candidate)
        except ValueError:  # pydantic's ValidationError is one
            return False
        if any(getattr(again, fields[key]) != getattr(given, fields[key]) for key in keys):
            return False
        complete.update(candidate)
        return True

    missing = [key for key in fields if key in plain and key not in options]
    if not try_out(missing):
        for key in missing:
            try_out([key])
    return {key: complete[key] for key in [*(key for key in plain if key in complete), *options]}


def _parse(model: type[BaseModel], options: Mapping[str, Any]) -> BaseModel:
    """Validate plain data with JSON's rules: lists become tuples, text becomes paths and enums, and nothing else is guessed."""
    removed = model.removed_options if issubclass(model, SignatureOptions) else {}
    options = {key: value for key, value in options.items() if key not in removed or value != removed[key]}
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
    """Returns Python data as a tree in which every value has the same place."""
    if isinstance(value, Mapping):
        return Node({str(key): _tree(item, place, (*path, str(key))) for key, item in value.items()}, place, path, place)
    if isinstance(value, list | tuple):
        return Node(tuple(_tree(item, place, (*path, index)) for index, item in enumerate(value)), place, path, place)
    return Node(value, place, path, place)


def _default_registry() -> Registry:
    from dadkit.plugin import get_registry

    return get_registry()


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
        self._light: list[tuple[Component, dict[str, Any], Any]] = []

    def find(self, kind: str, name: str) -> Component | None:
        """Returns the component, or None where there is no such thing."""
        found = self._resolve((kind,), name)
        return None if isinstance(found, Exception) else found

    def load(self, component: Component) -> Any:
        """Returns the class or function that builds a component; None if it cannot be imported, which is reported elsewhere."""
        from dadkit.plugin import PluginError

        try:
            return self._registry.load(component)
        except PluginError:
            return None

    def build(self, component: Component | None, options: Mapping[str, Any]) -> Any:
        """Returns a component that is light to build; None where there is none or its options are wrong, as is reported
        elsewhere.
        """
        from dadkit.plugin import PluginError

        if component is None:
            return None
        for known, given, built in self._light:
            if known == component and given == options:
                return built
        try:
            arguments = validate_options(component, options, registry=self._registry)
            return self._registry.load(component)(**{**arguments, **component.arguments})
        except (ConfigError, PluginError, TypeError, ValueError):
            return None

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
        try:
            given = _parse(model, tree.plain())
        except ValidationError as error:
            hint = _other_component(slot, at_name, tree, run)
            problems = translate(error.errors(include_url=False), tree, model)
            return [replace(problem, message=problem.message + hint) for problem in problems]
        if component.kind in _LIGHT:
            try:
                built = self._registry.load(component)(**{**_arguments(given), **component.arguments})
            except (TypeError, ValueError) as error:
                return [tree.problem(str(error))]
        slot.value["name"] = component.name  # a former name (alias) is written down as the present one
        slot.value["options"] = _with_defaults(given, slot.value.get("options", {}))
        if component.kind in _LIGHT:
            self._light.append((component, slot.value["options"], built))
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


def _other_component(slot: Slot, name: Node, options: Node, run: Node) -> str:
    """Returns what a message adds where the file gives the options to one component and an override names another."""
    if not name.place.order or options.place.order:
        return ""
    whole = f"{run.nearest(slot.path).dotted}={{name: {name.value}}}"
    return f" (the file gives these options to another component; the override '{whole}' takes this one without them)"
