"""Every key with its type, default and meaning, written from the schema: the table of the documentation, and a default file.

``python -m dadkit.config docs/configuration.md`` renews the table in the page; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from dadkit.config.dump import to_yaml
from dadkit.config.schema import EvaluationConfig, RunFields, RunFile, StageConfig, StageFields
from dadkit.config.slots import models_in

__all__ = ["BEGIN", "END", "Key", "default_text", "find_keys", "markdown", "renew"]

BEGIN = "<!-- keys: written by `python -m dadkit.config docs/configuration.md`, do not edit -->"
END = "<!-- /keys -->"
_REQUIRED = object()
_WORDS = {bool: "true / false", int: "whole number", float: "number", str: "text", type(None): "null", dict: "mapping"}


@dataclass(frozen=True)
class Key:
    """One key of a file.

    Attributes:
        path: dotted, ``N`` for the index of a list: ``teachers.N.probability``.
        type: what may stand there, in words.
        default: as YAML; ``required`` where there is none; empty for a mapping whose own keys have the defaults.
        meaning: its description.
    """

    path: str
    type: str
    default: str
    meaning: str


def find_keys(model: type[BaseModel], prefix: str = "", *, values: BaseModel | None = None) -> Iterator[Key]:
    """Every key of ``model`` and of the models inside it, in order.

    Args:
        model: the model.
        prefix: put before each path.
        values: an instance whose values are the defaults here; None: the fields' own defaults.
    """
    for name, field in model.model_fields.items():
        default = _default(field) if values is None else getattr(values, name)
        inner = models_in(field.annotation)
        shown = "" if isinstance(default, BaseModel) else _yaml(default)
        yield Key(prefix + name, _type(field.annotation, field.metadata), shown, field.description or "")
        is_list = get_origin(field.annotation) is list
        for one in inner:
            instance = default if isinstance(default, one) else None
            yield from find_keys(one, f"{prefix}{name}.{'N.' if is_list else ''}", values=instance)


def markdown() -> str:
    """All keys as Markdown tables: the run's, the stages' (one table a section), the evaluation's."""
    stage = list(find_keys(StageFields))
    parts = [
        "### The run\n",
        _table([_key(RunFile, "extends"), *(key for key in find_keys(RunFields) if not key.path.startswith("evaluation."))]),
        "### `stages`\n\nEach item holds its name and any of the stage keys below, which may also stand at the top level.\n",
        _table([_key(RunFile, "stages"), _key(StageConfig, "name", "stages.N.")]),
        "### Stage keys\n",
        _table([key for key in stage if "." not in key.path]),
    ]
    for section in dict.fromkeys(key.path.split(".")[0] for key in stage if "." in key.path):
        parts += [f"#### `{section}`\n", _table([key for key in stage if key.path.startswith(f"{section}.")])]
    parts += ["### `evaluation`\n", _table(list(find_keys(EvaluationConfig, "evaluation.")))]
    return "\n".join(parts)


def renew(page: str) -> str:
    """``page`` with the part between :data:`BEGIN` and :data:`END` written anew.

    Raises:
        ValueError: the page lacks the two marks.
    """
    if BEGIN not in page or END not in page:
        raise ValueError(f"the page needs the lines {BEGIN!r} and {END!r}")
    return re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: f"{BEGIN}\n\n{markdown()}\n{END}", page, flags=re.DOTALL)


def default_text() -> str:
    """A YAML file with every key at its default, each under its meaning as a comment."""
    return "# Every key at its default. A run needs at least student, data, and iterations or epochs.\n\n" + "".join(
        _commented(RunFile, RunFile(), "")
    )


def _commented(model: type[BaseModel], values: BaseModel, indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        yield f"{indent}# {_plain(field.description or '')}\n"
        if isinstance(value, BaseModel):
            yield f"{indent}{name}:\n"
            yield from _commented(type(value), value, indent + "  ")
        else:
            yield f"{indent}{name}: {_yaml(value)}\n"


def _key(model: type[BaseModel], name: str, prefix: str = "") -> Key:
    return next(key for key in find_keys(model, prefix) if key.path == prefix + name)


def _table(keys: list[Key]) -> str:
    rows = ["| key | type | default | meaning |", "|---|---|---|---|"]
    for key in keys:
        default = key.default if key.default in ("", "required") else f"`{key.default}`"
        meaning = _plain(key.meaning).replace("|", "\\|")
        rows.append(f"| `{key.path}` | {key.type} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    return _REQUIRED if default is PydanticUndefined else default


def _plain(description: str) -> str:
    return description.replace("``", "`")


def _yaml(value: Any) -> str:
    return "required" if value is _REQUIRED else to_yaml(value).removesuffix("...\n").strip()


def _type(annotation: Any, metadata: list[Any]) -> str:
    """What may stand there, in words: ``whole number ≥ 1 or null``."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type(arguments[0], [inner for item in arguments[1:] for inner in getattr(item, "metadata", [item])])
    if origin in (Union, UnionType):
        return " or ".join(_type(member, []) + _bounds(metadata) * (member is not type(None)) for member in arguments)
    if origin is Literal:
        return " or ".join(f"`{argument}`" for argument in arguments)
    if origin is list:
        return f"list of {_plural(_type(arguments[0], []))}"
    if origin is tuple:
        return f"[{', '.join(_type(argument, []) for argument in arguments)}]"
    word = "mapping" if models_in(annotation) else _WORDS.get(origin or annotation, getattr(annotation, "__name__", "any"))
    return word + _bounds(metadata)


def _bounds(metadata: list[Any]) -> str:
    signs = ((annotated_types.Gt, "gt", ">"), (annotated_types.Ge, "ge", "≥"), (annotated_types.Lt, "lt", "<"))
    found = [f"{sign} {getattr(item, name):g}" for item in metadata for kind, name, sign in signs if isinstance(item, kind)]
    found += [f"≤ {item.le:g}" for item in metadata if isinstance(item, annotated_types.Le)]
    return f" {', '.join(found)}" if found else ""


def _plural(word: str) -> str:
    return {"mapping": "mappings", "text": "texts"}.get(word, word)
