"""From a file and overrides to a resolved run, or to everything that is wrong with it at once.

The order: read the YAML; set the overrides; merge the defaults into the stages; validate against the schema; look every
component up and validate its options; check what cannot work. Each step adds its problems and goes on with what is valid.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from dadkit.config.checks import check_stages
from dadkit.config.extends import extend
from dadkit.config.lookup import Components
from dadkit.config.messages import translate
from dadkit.config.overrides import apply_overrides
from dadkit.config.problems import ConfigError, Problem
from dadkit.config.reader import read_document, read_file
from dadkit.config.required import missing_values
from dadkit.config.schema import INCOMPLETE_STAGE, RunConfig, RunFields, RunFile, StageFields
from dadkit.config.slots import models_in
from dadkit.config.stage_view import StageView
from dadkit.config.stages import Resolved, resolve_stages
from dadkit.config.tree import KeyPath, Node

if TYPE_CHECKING:
    from dadkit.plugin import Registry

__all__ = ["load_run", "parse_run"]


def load_run(path: str | Path, overrides: Sequence[str] = (), *, registry: Registry | None = None) -> RunConfig:
    """Read a run's file and resolve it.

    Args:
        path: the YAML file.
        overrides: ``key=value`` each, for instance ``"optim.lr=3e-4"`` or ``"stages.student.iterations=5"``.
        registry: where components are looked up; None: the process's own.

    Returns:
        The run: every stage complete, every component's options complete. ``name`` is the file's where it gives none.

    Raises:
        ConfigError: something is wrong; all problems at once, each with its place.
    """
    root, problems = read_file(path)
    folder = Path(path).parent
    return _resolve(
        root, problems, overrides, registry, default_name=Path(path).stem, folder=folder, seen=(Path(path).resolve(),)
    )


def parse_run(
    text: str, overrides: Sequence[str] = (), *, source: str = "<text>", registry: Registry | None = None
) -> RunConfig:
    """As :func:`load_run`, from the text of a file; ``source`` is what messages call it.

    What it ``extends`` is looked for from the current folder.
    """
    root, problems = read_document(text, source)
    return _resolve(root, problems, overrides, registry, default_name="run", folder=Path())


def _resolve(
    root: Node,
    problems: list[Problem],
    overrides: Sequence[str],
    registry: Registry | None,
    *,
    default_name: str,
    folder: Path,
    seen: tuple[Path, ...] = (),
) -> RunConfig:
    root, found, changes = extend(root, folder, seen)
    problems = problems + found
    root, found = apply_overrides(root, overrides)
    problems = problems + found
    assert root.mapping is not None
    if "name" not in root.mapping:
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", default_name).lstrip("._-") or "run"
        root = root.with_items({"name": Node(name, root.place, ("name",)), **root.mapping})
    resolved = resolve_stages(root)
    problems += missing_values(resolved.run)
    problems += _idle_changes(resolved, changes)
    if resolved.multiple:
        problems += _default_problems(resolved.defaults)
    data, found = _validate(resolved.run)
    components = Components(registry)
    problems += found + components.complete(data, resolved.run)
    problems += check_stages(_views(resolved), components.find, has_evaluation=data.get("evaluation") is not None)
    if problems:
        raise ConfigError(problems)
    try:
        return RunConfig.model_validate(data)
    except ValidationError as error:
        raise ConfigError(translate(error.errors(include_url=False), resolved.run, RunFile)) from error


def _validate(run: Node) -> tuple[dict[str, Any], list[Problem]]:
    """Plain data of the run, with all defaults if it is valid, and what is wrong with it."""
    plain = run.plain()
    try:
        return RunConfig.model_validate(plain).model_dump(), []
    except ValidationError as error:
        # Whether a stage is complete is said by check_stages, which also can where some other part of the stage is broken.
        errors = [item for item in error.errors(include_url=False) if item["type"] != INCOMPLETE_STAGE]
        return plain, translate(errors, run, RunFile, hint=_hint)


def _default_problems(defaults: Node) -> list[Problem]:
    """Mistakes in the defaults of a file with stages, also where no stage makes use of them."""
    try:
        StageFields.model_validate(defaults.plain())
    except ValidationError as error:
        # A default may be half a component, say options without a name: it only has to be complete in a stage.
        errors = [item for item in error.errors(include_url=False) if item["type"] not in ("missing", "value_error")]
        return translate(errors, defaults, StageFields, hint=_hint)
    return []


def _views(resolved: Resolved) -> list[StageView]:
    """The stages as far as they are valid."""
    views = []
    for stage in resolved.stages.values():
        name = stage.get("name")
        plain = {key: value for key, value in stage.plain().items() if key in StageFields.model_fields}
        broken: frozenset[str] = frozenset()
        try:
            fields = StageFields.model_validate(plain)
        except ValidationError as error:
            broken = frozenset(str(item["loc"][0]) for item in error.errors(include_url=False))
            fields = StageFields.model_validate({key: value for key, value in plain.items() if key not in broken})
        label = "main" if name is None else name.value
        views.append(StageView(label if isinstance(label, str) else None, stage, fields, broken))
    return views


def _idle_changes(resolved: Resolved, sources: frozenset[str]) -> list[Problem]:
    """Changes of a default that every stage sets for itself: they would change nothing, and the user would not know.

    A change is an override, or a value of a file that extends another one (``sources``).
    """
    if not resolved.multiple or not resolved.stages:
        return []
    used = {node.place for node in resolved.run.walk() if node.written}
    problems = []
    for node in resolved.defaults.walk():
        is_change = node.place.order or node.place.source in sources
        if is_change and node.written and node.place not in used and not (node.mapping or node.items):
            places = " or ".join(f"stages.{_label(stage)}.{node.dotted}=…" for stage in resolved.stages.values())
            problems.append(node.problem(f"changes nothing, since every stage sets its own; write {places}"))
    return problems


def _label(stage: Node) -> str:
    name = stage.get("name")
    return "main" if name is None else str(name.value)


def _hint(parent: KeyPath, key: str) -> str:
    """Where an unknown key does belong, if that is somewhere else."""
    if len(parent) == 2 and parent[0] == "stages" and key in RunFields.model_fields:
        return ": it belongs to the run as a whole, so write it at the top level"
    elsewhere = _PATHS.get(key, [])
    return f", did you mean {' or '.join(repr(path) for path in elsewhere)}?" if 0 < len(elsewhere) <= 3 else ""


def _paths(model: type[BaseModel], prefix: str = "") -> dict[str, list[str]]:
    """Last part of each key -> the dotted keys that end so."""
    found: dict[str, list[str]] = {}
    for name, field in model.model_fields.items():
        found.setdefault(name, []).append(prefix + name)
        for inner in models_in(field.annotation):
            for key, paths in _paths(inner, f"{prefix}{name}.").items():
                found.setdefault(key, []).extend(paths)
    return found


_PATHS = _paths(StageFields)
