"""The options of a component that declares no model of its own: a pydantic model made from its target's signature.

Types come from the annotations, defaults from the parameters, descriptions from the ``Args:`` section of the docstring.
"""

from __future__ import annotations

import dataclasses
import inspect
import re
import sys
from collections.abc import Callable, Collection, Mapping
from functools import cache, reduce
from operator import or_
from types import SimpleNamespace, UnionType
from typing import Any, ClassVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo

__all__ = ["SignatureError", "SignatureOptions", "signature_model"]


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
    """A model with one field a keyword that ``target`` takes.

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
    """The parameters' types: Any without an annotation, ``_Unwritable`` where YAML cannot hold one."""
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
