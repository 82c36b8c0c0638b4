"""From a file and overrides to a resolved run, or to everything that is wrong with it at once.

The order: read the YAML; set the overrides; merge the defaults into the stages; look every component up and complete its
options; validate against the schema, once; check what cannot work. Each step adds its problems and goes on with what is valid.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from dadkit._version import __version__
from dadkit.config.checks import check_stages
from dadkit.config.components import Components
from dadkit.config.messages import translate
from dadkit.config.reader import read_document, read_file, to_yaml
from dadkit.config.schema import INCOMPLETE_STAGE, RunConfig, RunFields, RunFile, StageFields
from dadkit.config.sections import find_slots, models_in
from dadkit.config.stages import CHOICE, Resolved, StageView, apply_overrides, extend, resolve_stages
from dadkit.config.tree import ConfigError, KeyPath, Node, Problem, Scalar

if TYPE_CHECKING:
    from dadkit.plugin import Registry

__all__ = ["dump", "load_run", "parse_run"]

UNSAID = "???"
"""A file leaves a value to its user by it: ``root: ??? folder of photographs``."""


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


def dump(run: RunConfig) -> str:
    """Returns the run as YAML, every key with its value, in the order of the schema.

    ``load_run`` of the text gives an equal run, and training it gives the same result, whatever the defaults of a later
    version are. Left out is only what cannot be given beside its alternative: ``stage`` beside ``name``, ``epochs`` beside
    ``iterations``.
    """
    data = run.model_dump()
    for slot in find_slots(RunConfig, data):
        if slot.value.get("name", "") is None:
            del slot.value["name"], slot.value["options"]
        elif slot.value.get("stage", "") is None:
            del slot.value["stage"]
    for stage in data["stages"]:
        for key in CHOICE:
            if stage[key] is None:
                del stage[key]
    data["stages"] = [{"name": stage.pop("name"), **stage} for stage in data["stages"]]
    head = f"# A resolved run, written by dadkit {__version__}. `dadkit train` takes this file as it is.\n"
    return head + to_yaml(data)


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
    problems += _unsaid(resolved.run)
    problems += _idle_changes(resolved, changes)
    if resolved.multiple:
        problems += _default_problems(resolved.defaults)
    data, components = resolved.run.plain(), Components(registry)
    problems += components.complete(data, resolved.run)
    run, views, found = _validate(data, resolved)
    problems += found
    evaluation = resolved.run.get("evaluation")
    has_evaluation = evaluation is not None and evaluation.value is not None
    problems += check_stages(views, components, has_evaluation=has_evaluation)
    if run is None or problems:
        raise ConfigError(problems)
    return run


def _validate(data: dict[str, Any], resolved: Resolved) -> tuple[RunConfig | None, list[StageView], list[Problem]]:
    """Returns the run, or None and what is wrong with it, and its stages as far as they are valid."""
    try:
        run = RunConfig.model_validate(data)
    except ValidationError as error:
        errors = error.errors(include_url=False)
    else:
        nodes = resolved.stages.values()
        return run, [StageView(stage.name, node, stage) for stage, node in zip(run.stages, nodes, strict=True)], []
    # Whether a stage is complete is said by check_stages, which can say it where some other part of the stage is broken too.
    wrong = [item for item in errors if item["type"] != INCOMPLETE_STAGE]
    views = [_view(index, node, data["stages"][index], wrong) for index, node in resolved.stages.items()]
    return None, views, translate(wrong, resolved.run, RunFile, hint=_hint)


def _view(index: int, node: Node, data: dict[str, Any], errors: Sequence[ErrorDetails]) -> StageView:
    """Returns the stage without the keys that are not valid."""
    broken = frozenset(str(item["loc"][2]) for item in errors if item["loc"][:2] == ("stages", index) and len(item["loc"]) > 2)
    valid = {key: value for key, value in data.items() if key in StageFields.model_fields and key not in broken}
    label = _label(node)
    return StageView(label if isinstance(label, str) else None, node, StageFields.model_validate(valid), broken)


def _unsaid(run: Node) -> list[Problem]:
    """Returns a problem for every value of the tree that is still ``??? what it should be``."""
    problems = {}
    for node in run.walk():
        if isinstance(node.value, str) and node.value.startswith(UNSAID):
            what = node.value.removeprefix(UNSAID).strip()
            text = f"must be given{': ' + what if what else ''}; write {node.dotted}=… after the file's name, or in the file"
            # A default is part of several stages, but it was written once, and is to be given once.
            problems[node.place] = node.problem(text)
    return list(problems.values())


def _default_problems(defaults: Node) -> list[Problem]:
    """Mistakes in the defaults of a file with stages, also where no stage makes use of them."""
    try:
        StageFields.model_validate(defaults.plain())
    except ValidationError as error:
        # A default may be half a component, say options without a name: it only has to be complete in a stage.
        errors = [item for item in error.errors(include_url=False) if item["type"] not in ("missing", "value_error")]
        return translate(errors, defaults, StageFields, hint=_hint)
    return []


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


def _label(stage: Node) -> Scalar:
    """Returns the stage's name as it was written, which may be no text."""
    name = stage.get("name")
    if name is None:
        return "main"
    return None if isinstance(name.value, tuple | Mapping) else name.value


def _hint(parent: KeyPath, key: str) -> str:
    """Returns where an unknown key does belong, if that is somewhere else."""
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
