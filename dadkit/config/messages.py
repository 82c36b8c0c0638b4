"""Pydantic's errors -> located problems in plain words."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from dadkit.config.schema import DEVICE, RUN_NAME, STAGE_NAME
from dadkit.config.sections import models_in
from dadkit.config.tree import KeyPath, Node, Problem
from dadkit.errors import did_you_mean

__all__ = ["KeyHint", "as_text", "known_keys", "translate"]

KeyHint = Callable[[KeyPath, str], str]
"""(path of the mapping, unknown key) -> what to say beyond near misses among its neighbours, or an empty text."""

# What a value must be, by pydantic's type of error; {…} is filled from the error's context.
_EXPECTED = {
    "bool_parsing": "true or false",
    "bool_type": "true or false",
    "dataclass_type": "a mapping of keys to values",
    "dict_type": "a mapping of keys to values",
    "enum": "{expected}",
    "finite_number": "a finite number",
    "float_parsing": "a number",
    "float_type": "a number",
    "frozen_set_type": "a list",
    "greater_than": "greater than {gt}",
    "greater_than_equal": "at least {ge}",
    "int_from_float": "a whole number",
    "int_parsing": "a whole number",
    "int_type": "a whole number",
    "less_than": "less than {lt}",
    "less_than_equal": "at most {le}",
    "list_type": "a list",
    "literal_error": "{expected}",
    "mapping_type": "a mapping of keys to values",
    "model_attributes_type": "a mapping of keys to values",
    "model_type": "a mapping of keys to values",
    "multiple_of": "a multiple of {multiple_of}",
    "none_required": "null",
    "path_type": "a path",
    "set_type": "a list",
    "string_type": "text",
    "tuple_type": "a list",
}
_PATTERNS = {
    RUN_NAME: "letters, digits, '.', '_' and '-', with a letter or digit first",
    STAGE_NAME: "lower-case letters, digits, '_' and '-', with a letter first",
    DEVICE: "'auto', 'cpu', 'cuda' or, for instance, 'cuda:1'",
}


@dataclass(frozen=True)
class _Found:
    """One of pydantic's errors, laid onto the tree.

    Attributes:
        path: the longest part of its location that exists in the tree.
        union: where on that path a union branched, and the branch, if one did.
        missing: the key that is not there, for "missing" errors.
    """

    error: ErrorDetails
    path: KeyPath
    union: tuple[KeyPath, str] | None
    missing: str | int | None


def translate(
    errors: Iterable[ErrorDetails], root: Node, model: type[BaseModel], *, hint: KeyHint | None = None
) -> list[Problem]:
    """Say in plain words, and with places, what pydantic found.

    Args:
        errors: of one validation.
        root: what was validated.
        model: the model it was validated by, for near misses of unknown keys.
        hint: more to say about an unknown key.

    Returns:
        One problem a mistake; the errors of a union's branches become one.
    """
    plain: list[_Found] = []
    unions: dict[KeyPath, dict[str, list[_Found]]] = {}
    for error in errors:
        found = _lay(error, root)
        if found.union is None:
            plain.append(found)
        else:
            unions.setdefault(found.union[0], {}).setdefault(found.union[1], []).append(found)
    problems = [_problem(found, root, model, hint) for found in plain]
    for path, branches in unions.items():
        problems += _union_problems(path, branches, root, model, hint)
    return problems


def known_keys(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Returns the keys that a mapping at ``path`` may have."""
    return list(_fields_at(model, path))


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> dict[str, FieldInfo]:
    """Returns key -> field, of a mapping at ``path``; where a union leaves several models, the first that has the key
    decides.
    """
    models = [model]
    for part in path:
        if isinstance(part, str):
            named = [field for one in models for name, field in one.model_fields.items() if part in (field.alias, name)]
            models = [inner for field in named for inner in models_in(field.annotation)]
    fields: dict[str, FieldInfo] = {}
    for one in models:
        for name, field in one.model_fields.items():
            fields.setdefault(field.alias or name, field)
    return fields


def _lay(error: ErrorDetails, root: Node) -> _Found:
    """Walk the error's location down the tree. Parts that the tree lacks are names of union branches, or the missing key."""
    node, union = root, None
    path: KeyPath = ()
    location = error["loc"]
    for index, part in enumerate(location):
        child = node.get(part)
        if child is not None:
            node, path = child, (*path, part)
        elif error["type"] in ("missing", "missing_argument") and index == len(location) - 1:
            return _Found(error, path, union, part)
        elif union is None:
            union = (path, str(part))
    return _Found(error, path, union, None)


def _union_problems(
    path: KeyPath, branches: dict[str, list[_Found]], root: Node, model: type[BaseModel], hint: KeyHint | None
) -> list[Problem]:
    """If the value has the shape of one branch, that branch's errors; else one sentence about all of them."""
    fitting = [found for found in branches.values() if all(_is_inside(f, path) for f in found)]
    if fitting:
        return [_problem(found, root, model, hint) for found in min(fitting, key=len)]
    value = root.nearest(path).plain()
    everything = [f.error for found in branches.values() for f in found]
    here = [f.error for found in branches.values() for f in found if len(f.path) == len(path)]
    wanted = list(dict.fromkeys(filter(None, map(_expected, here or everything))))
    if not wanted:
        return [_problem(found, root, model, hint) for found in next(iter(branches.values()))]
    message = f"must be {' or '.join(wanted)}, got {_show(value)}{_advice(wanted[0], value)}"
    return [root.nearest(path).problem(message)]


def _is_inside(found: _Found, path: KeyPath) -> bool:
    """Returns the problem of a value that has the right shape, but whose content is wrong."""
    content = ("value_error", "assertion_error")
    return len(found.path) > len(path) or found.missing is not None or found.error["type"] in content


def as_text(description: str) -> str:
    """Returns a docstring's words for people: on one line, without the marks of reStructuredText.

    Example:
        >>> as_text("``png16`` or a pair,\\nsee :func:`~dadkit.data.read`.")
        '`png16` or a pair, see `dadkit.data.read`.'
    """
    return re.sub(r":\w+:`~?([^`]+)`", r"`\1`", " ".join(description.split())).replace("``", "`")


def _problem(found: _Found, root: Node, model: type[BaseModel], hint: KeyHint | None) -> Problem:
    node = root.nearest(found.path)
    error = found.error
    if found.missing is not None:
        field = _fields_at(model, found.path).get(str(found.missing))
        meaning = f": {as_text(field.description)}" if field is not None and field.description else ""
        key = ".".join(str(part) for part in (*node.path, found.missing))
        return Problem(node.place, key, f"missing, it has no default{meaning}")
    if error["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
        return node.problem(_unknown_key(found.path, model, hint), at_key=True)
    value = node.plain() if node.path else error["input"]
    wanted = _expected(error)
    if wanted:
        return node.problem(f"must be {wanted}, got {_show(value)}{_near_choice(error, value)}{_advice(wanted, value)}")
    return node.problem(_other(error, value))


def _unknown_key(path: KeyPath, model: type[BaseModel], hint: KeyHint | None) -> str:
    key, parent = str(path[-1]), path[:-1]
    known = known_keys(model, parent)
    more = did_you_mean(key, known) or (hint(parent, key) if hint else "")
    if not more:
        more = f"; known here: {', '.join(known)}" if known else "; nothing can be set here"
    return f"unknown key{more}"


def _expected(error: ErrorDetails) -> str:
    """Returns what the value must be: ``a whole number``; empty where that form does not fit."""
    template = _EXPECTED.get(error["type"])
    if template is not None:
        return template.format(**{key: _number(value) for key, value in error.get("ctx", {}).items()})
    return error["msg"].removeprefix("Input should be ") if error["msg"].startswith("Input should be ") else ""


def _other(error: ErrorDetails, value: Any) -> str:
    """Errors that are not of the form "must be …"."""
    context = error.get("ctx", {})
    match error["type"]:
        case "value_error" | "assertion_error":
            return str(context.get("error") or error["msg"])
        case "string_pattern_mismatch":
            allowed = _PATTERNS.get(context["pattern"])
            return (
                f"must be {allowed}, got {_show(value)}" if allowed else f"must match {context['pattern']}, got {_show(value)}"
            )
        case "too_short":
            return f"must have at least {_items(context['min_length'])}, got {context['actual_length']}"
        case "too_long":
            return f"must have at most {_items(context['max_length'])}, got {context['actual_length']}"
        case _:
            return f"{error['msg'][:1].lower()}{error['msg'][1:]}, got {_show(value)}"


def _near_choice(error: ErrorDetails, value: Any) -> str:
    if error["type"] not in ("literal_error", "enum") or not isinstance(value, str):
        return ""
    return did_you_mean(value, re.findall(r"'([^']*)'", error.get("ctx", {}).get("expected", "")))


def _advice(wanted: str, value: Any) -> str:
    """Returns what to write instead, where the slip is a common one."""
    if isinstance(value, str) and "number" in wanted and re.fullmatch(r"[-+]?\d[\d_]*_\d[\d_]*", value):
        return f"; write {value.replace('_', '')}"
    if isinstance(value, float) and wanted == "a whole number" and value.is_integer():
        return f"; write {int(value)}"
    if wanted == "text" and isinstance(value, bool | int | float):
        return "; put it in quotes"
    return ""


def _show(value: Any) -> str:
    if value is None:
        return "nothing (null)"
    if isinstance(value, dict | list | tuple):
        return "a mapping" if isinstance(value, dict) else "a list"
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _items(number: int) -> str:
    return f"{number} item{'' if number == 1 else 's'}"


def _number(value: Any) -> Any:
    return int(value) if isinstance(value, float) and value.is_integer() else value
