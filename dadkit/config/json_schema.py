"""JSON Schema of a run's file, of one key, or of a component's options: editors complete and check from it.

The schema of the whole file knows the installed components: which names may stand where, and which options each takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue

from dadkit.config.components import options_model
from dadkit.config.messages import known_keys
from dadkit.config.problems import ConfigError, Place, Problem, did_you_mean
from dadkit.config.schema import RunFile
from dadkit.config.slots import kinds_of, models_in

if TYPE_CHECKING:
    from dadkit.plugin import Component, Registry

__all__ = ["json_schema"]


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
                holder["properties"][name] = _with_components(holder["properties"][name], own)
    for kind in kinds:
        definitions[f"{kind} components"] = _known_components(kind, registry, definitions)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "dadkit run"}


def _models(model: type[BaseModel], schema: dict[str, Any]) -> Iterator[tuple[type[BaseModel], dict[str, Any]]]:
    """Every model of the file, once, with its place in the schema."""
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
    """A field's schema in which each reference to a model also refers to the installed components of one of ``kinds``."""
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
    """What `name` may be, and for each name what `options` may be."""
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
