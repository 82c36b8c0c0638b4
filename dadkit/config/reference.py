"""What the schema says, for people and for editors: the table of keys in the documentation, a default file, JSON Schema.

The JSON Schema of a whole file knows the installed components: which names may be written where, and which options each takes.

``python -m dadkit.config docs/configuration.md`` renews the table in the page; a test compares the two.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import PydanticUndefined

from dadkit.config.components import options_model
from dadkit.config.messages import as_text, known_keys
from dadkit.config.reader import to_yaml
from dadkit.config.schema import EvaluationConfig, RunFields, RunFile, StageConfig, StageFields
from dadkit.config.sections import kinds_of, models_in
from dadkit.config.tree import ConfigError, Place, Problem
from dadkit.errors import did_you_mean

if TYPE_CHECKING:
    from dadkit.plugin import Component, Registry

__all__ = ["BEGIN", "END", "Key", "default_text", "find_keys", "json_schema", "markdown", "renew"]

BEGIN = "<!-- keys: written by `python -m dadkit.config docs/configuration.md`, do not edit -->"
END = "<!-- /keys -->"
_REQUIRED = object()
_WORDS = {bool: "true / false", int: "whole number", float: "number", str: "text", type(None): "null", dict: "mapping"}


@dataclass(frozen=True)
class Key:
    """One key of a file.

    Attributes:
        path: dotted, ``N`` for the index of a list: ``teachers.N.probability``.
        type: what its value may be, in words.
        default: as YAML; ``required`` where there is none; empty for a mapping whose own keys have the defaults.
        meaning: its description.
    """

    path: str
    type: str
    default: str
    meaning: str


def find_keys(model: type[BaseModel], prefix: str = "", *, values: BaseModel | None = None) -> Iterator[Key]:
    """Yields every key of ``model`` and of the models inside it, in order.

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
    """Returns all keys as Markdown tables: the run's, the stages' (one table a section), the evaluation's."""
    stage = list(find_keys(StageFields))
    parts = [
        "### The run\n",
        _table([_key(RunFile, "extends"), *(key for key in find_keys(RunFields) if not key.path.startswith("evaluation."))]),
        "### `stages`\n\nEach item holds its name and any of the stage keys below, which are also allowed at the top level.\n",
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
    """Returns a YAML file with every key at its default, each under its meaning as a comment."""
    return "# Every key at its default. A run needs at least student, data, and iterations or epochs.\n\n" + "".join(
        _commented(RunFile, RunFile(), "")
    )


def _commented(model: type[BaseModel], values: BaseModel, indent: str) -> Iterator[str]:
    for name, field in model.model_fields.items():
        value = getattr(values, name)
        yield f"{indent}# {as_text(field.description or '')}\n"
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
        meaning = as_text(key.meaning).replace("|", "\\|")
        rows.append(f"| `{key.path}` | {key.type} | {default} | {meaning} |")
    return "\n".join(rows) + "\n"


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True, validated_data={})
    return _REQUIRED if default is PydanticUndefined else default


def _yaml(value: Any) -> str:
    if isinstance(value, list):  # of components, on one line
        return f"[{', '.join(f'{{name: {item.name}}}' for item in value)}]"
    return "required" if value is _REQUIRED else to_yaml(value).removesuffix("...\n").strip()


def _type(annotation: Any, metadata: list[Any]) -> str:
    """Returns what the value may be, in words: ``whole number ≥ 1 or null``."""
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


def json_schema(field: str | None = None, *, component: str | None = None, registry: Registry | None = None) -> dict[str, Any]:
    """JSON Schema (draft 2020-12).

    Args:
        field: a dotted key, for instance ``"optim.lr"`` or ``"losses.shared"``; list indices are left out.
        component: a registered name, for instance ``"dav2/small"``: the schema of its options. Where one name is registered
            for several kinds, the answer maps each kind to its schema.
        registry: where components are looked up; None: the process's own.

    Returns:
        The schema; of the whole file if neither is given.

    Raises:
        ConfigError: there is no such key.
        dadkit.plugin.PluginError: there is no such component, or its code cannot be imported.
    """
    if field is not None:
        return _field_schema(field)
    from dadkit.kinds import KINDS
    from dadkit.plugin import PluginError, get_registry

    registry = registry or get_registry()
    if component is None:
        return _file_schema(registry, KINDS)
    found: dict[str, Any] = {}
    failures: list[PluginError] = []
    for kind in KINDS:
        try:
            found[kind] = _options_schema(registry.resolve(kind, component), registry)
        except PluginError as error:
            failures.append(error)
    if found:
        return next(iter(found.values())) if len(found) == 1 else found
    if "/" in component:  # the registry knows best what is the matter with a plugin
        raise next((error for error in failures if "did you mean" in str(error)), failures[0])
    names = [known.name for kind in KINDS for known in registry.components(kind)]
    raise PluginError(f"no component is called '{component}'{did_you_mean(component, [*names, *RunFile.model_fields])}")


class _Generator(GenerateJsonSchema):
    """Types that JSON Schema cannot tell, a callable for instance, become "anything"."""

    def handle_invalid_for_json_schema(self, schema: Any, error_info: str) -> JsonSchemaValue:
        return {"description": f"not described: {error_info}"}


def _options_schema(component: Component, registry: Registry) -> dict[str, Any]:
    schema = options_model(component, registry=registry).model_json_schema(schema_generator=_Generator)
    return {**schema, "title": f"options of {component.kind} {component.name}"}


def _field_schema(field: str) -> dict[str, Any]:
    models: list[type[BaseModel]] = [RunFile]
    parts = [part for part in field.split(".") if not part.isdecimal()]
    for index, part in enumerate(parts):
        infos = [model.model_fields[part] for model in models if part in model.model_fields]
        if not infos:
            known = [key for model in models for key in known_keys(model, ())]
            message = f"there is no such key{did_you_mean(part, known) or '; known here: ' + ', '.join(known)}"
            raise ConfigError([Problem(Place(0, 0, 0, "schema"), ".".join(parts[: index + 1]), message)])
        info = infos[0]
        models = models_in(info.annotation)
    annotated: Any = Annotated[info.annotation, info]
    return TypeAdapter(annotated).json_schema(schema_generator=_Generator)


def _file_schema(registry: Registry, kinds: Any) -> dict[str, Any]:
    schema = RunFile.model_json_schema(schema_generator=_Generator)
    definitions: dict[str, Any] = schema["$defs"]
    for model, holder in _models(RunFile, schema):
        for name, info in model.model_fields.items():
            own = kinds_of(info)
            if own:
                holder["properties"][name] = described = _with_components(holder["properties"][name], own)
                if name in RunFields.model_fields and "items" in described:  # a bare name is short for {name: NAME}
                    described["items"] = {"anyOf": [{"type": "string"}, described["items"]]}
    for kind in kinds:
        definitions[f"{kind} components"] = _known_components(kind, registry, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "dadkit run"}


def _models(model: type[BaseModel], schema: dict[str, Any]) -> Iterator[tuple[type[BaseModel], dict[str, Any]]]:
    """Yields every model of the file, once, with its place in the schema."""
    seen: dict[str, type[BaseModel]] = {}
    waiting = [model]
    while waiting:
        one = waiting.pop()
        if one.__name__ not in seen:
            seen[one.__name__] = one
            waiting += [inner for info in one.model_fields.values() for inner in models_in(info.annotation)]
    for name, one in seen.items():
        yield one, schema if one is model else schema["$defs"][name]


def _with_components(node: Any, kinds: Sequence[str]) -> Any:
    """Returns a field's schema in which each reference to a model also refers to the installed components of one of
    ``kinds``.
    """
    if isinstance(node, list):
        return [_with_components(item, kinds) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        rest = {key: value for key, value in node.items() if key != "$ref"}
        known: list[dict[str, Any]] = [{"$ref": f"#/$defs/{kind} components"} for kind in kinds]
        return {"allOf": [{"$ref": node["$ref"]}, known[0] if len(known) == 1 else {"anyOf": known}], **rest}
    return {key: value if key == "default" else _with_components(value, kinds) for key, value in node.items()}


def _known_components(kind: str, registry: Registry, definitions: dict[str, Any]) -> dict[str, Any]:
    """Returns what `name` may be, and for each name what `options` may be."""
    from dadkit.plugin import PluginError

    names: list[str] = []
    rules: list[dict[str, Any]] = []
    for component in registry.components(kind):
        names.append(component.name)
        try:
            options = options_model(component, registry=registry)
        except PluginError as error:
            schema: dict[str, Any] = {"description": str(error)}
        else:
            prefix = f"{kind} {component.name} "
            schema = options.model_json_schema(schema_generator=_Generator, ref_template=f"#/$defs/{prefix}{{model}}")
            definitions.update({prefix + name: inner for name, inner in schema.pop("$defs", {}).items()})
        then: dict[str, Any] = {"properties": {"options": schema}}
        if schema.get("required"):
            then["required"] = ["options"]
        rules.append({"if": {"properties": {"name": {"const": component.name}}, "required": ["name"]}, "then": then})
    known: dict[str, Any] = {"properties": {"name": {"anyOf": [{"enum": names}, {"type": "null"}]}}}
    return {**known, "allOf": rules} if rules else known
