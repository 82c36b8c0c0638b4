"""What is laid over what: stages over defaults, a file over the file that it extends, ``key=value`` over all.

The rules, on the tree as it was written, so that every value keeps its place:

* a stage's mapping is merged key by key into the default;
* a mapping that names another component (another ``name``, or another ``stage``) replaces the default, options and all;
* a list replaces the default's list, and so does any other value;
* below the file's defaults are dadkit's own, by the same rules: ``contexts: {options: {n: 2}}`` is still ``local-global``, and
  ``local_global: {trim: 0.1}`` still has its weight of 0.5;
* ``iterations`` and ``epochs`` are one choice: a stage that gives one of them drops the default's other one;
* a file without ``stages`` has one stage, ``main``, made of the defaults alone;
* ``extends: base.yaml``: the other file's values are the defaults of this one. ``name`` is not taken over: a run is called as
  its own file is. ``stages`` may be a mapping here, from names of the other file's stages to changes in them;
* ``optim.lr=3e-4`` on the command line sets the default of every stage (a stage that gives its own keeps it);
  ``stages.student.optim.lr=3e-4`` and ``stages.1.optim.lr=3e-4`` set it in one stage. The value is YAML. It replaces what was
  there, a mapping as a whole, before anything is checked.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from dadkit.config.reader import describe, read_file, read_text
from dadkit.config.schema import RunFields, RunFile, StageFields
from dadkit.config.sections import kinds_of, slot_paths
from dadkit.config.tree import ConfigError, KeyPath, Node, Place, Problem, dotted
from dadkit.errors import did_you_mean

if TYPE_CHECKING:
    from dadkit.plugin import Component

__all__ = [
    "CHOICE",
    "Lookup",
    "Resolved",
    "StageView",
    "apply_overrides",
    "extend",
    "merge",
    "other_choice",
    "parse_assignments",
    "parse_axis",
    "resolve_stages",
    "split_arguments",
]


_KEY = r"[A-Za-z0-9_-]+(?:\.[A-Za-z0-9_-]+)*"


def split_arguments(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Split what follows a command into files and ``key=value`` overrides.

    An override begins with a dotted key and ``=``. What exists as a file is a file, whatever its name.

    Example:
        >>> split_arguments(["a.yaml", "optim.lr=3e-4", "runs/lr=1/config.yaml"])
        (['a.yaml', 'runs/lr=1/config.yaml'], ['optim.lr=3e-4'])
    """
    files: list[str] = []
    overrides: list[str] = []
    for argument in arguments:
        # os.path, since pathlib raises where text is longer than any file's name
        is_override = re.match(_KEY + "=", argument) and not os.path.isfile(argument)
        (overrides if is_override else files).append(argument)
    return files, overrides


def parse_assignments(assignments: Sequence[str]) -> dict[str, Any]:
    """Returns the options that are given on a command line, as plain data.

    Example:
        >>> parse_assignments(["split=test", "view.size=64"])
        {'split': 'test', 'view': {'size': 64}}

    Raises:
        ConfigError: one of them is not ``key=value``, or its value is not YAML.
    """
    node, problems = apply_overrides(Node({}, Place(0, 0, 0, "command line")), assignments)
    if problems:
        raise ConfigError(problems)
    plain: dict[str, Any] = node.plain()
    return plain


def parse_axis(text: str) -> tuple[str, list[Any]]:
    """Returns a key and the values that it takes, one after the other.

    Example:
        >>> parse_axis("optim.lr=[1e-3, 3e-3]")
        ('optim.lr', [0.001, 0.003])

    Raises:
        ConfigError: it is not ``key=[value, …]``, or the values are not YAML.
    """
    place = Place(0, 0, 0, f"axis '{text}'")
    match = re.fullmatch(f"({_KEY})=(.*)", text, re.DOTALL)
    value = read_text(match[2], place)[0] if match else None
    if match is None or value is None or not value.items:
        raise ConfigError([Problem(place, "", "not key=[value, value, …], for instance optim.lr=[1e-3, 3e-3]")])
    return match[1], value.plain()


def apply_overrides(root: Node, overrides: Sequence[str]) -> tuple[Node, list[Problem]]:
    """Set the values of ``overrides`` in ``root``, in their order.

    Args:
        root: the file's mapping.
        overrides: ``key=value`` each.

    Returns:
        The new tree, and what could not be set. Keys that do not exist are set all the same: the schema will refuse them.
    """
    problems: list[Problem] = []
    for number, text in enumerate(overrides, start=1):
        place = Place(number, 0, 0, f"override '{text}'")
        match = re.fullmatch(f"({_KEY})=(.*)", text, re.DOTALL)
        if match is None:
            problems.append(Problem(place, "", "not key=value, for instance optim.lr=3e-4"))
            continue
        keys = tuple(match[1].split("."))
        try:
            value, found = read_text(match[2], place, keys)
            problems += found
            root = _set(root, keys, replace(value, key=place))
        except ConfigError as error:
            problems += error.problems
    return root, problems


def _set(node: Node, keys: Sequence[str], value: Node, done: KeyPath = ()) -> Node:
    """``node`` with ``value`` at ``keys``; null, and what is not there, becomes a mapping on the way."""
    if not keys:
        return value
    key, *rest = keys
    if node.items is not None:
        index = _index(node, key, value.place, done)
        items = list(node.items)
        items[index] = _set(items[index], rest, value, (*done, key))
        return node.with_items(tuple(items))
    if node.mapping is None and node.value is not None:
        message = f"'{dotted(done)}' is {describe(node)}, it has no key '{key}'"
        raise ConfigError([Problem(value.place, dotted((*done, key)), message)])
    if done == ("stages",) and node.value is None:
        message = "the file has no stages; its top level is its only one, so leave out 'stages.NAME.'"
        raise ConfigError([Problem(value.place, dotted((*done, key)), message)])
    children: dict[str, Node] = dict(node.mapping or {})
    path = (*done, key)
    children[key] = _set(children.get(key) or Node(None, value.place, path, value.place), rest, value, path)
    if not rest and (not done or done[0] == "stages"):
        _drop_other_choice(children, key)
    return node.with_items(children) if node.mapping is not None else Node(children, value.place, done, value.place)


def _drop_other_choice(children: dict[str, Node], key: str) -> None:
    """``epochs=3`` takes the place of the file's ``iterations``, but not of another override's."""
    other = other_choice(key, children[key])
    if other is not None and other in children and children[other].place.order == 0:
        del children[other]


def _index(node: Node, key: str, place: Place, done: KeyPath) -> int:
    """Returns the index that ``key`` means: a number, or among stages a name."""
    assert node.items is not None
    if key.isdecimal() and int(key) < len(node.items):
        return int(key)
    names = _stage_names(node) if done == ("stages",) else {}
    if key in names:
        return names[key]
    many = f"{len(node.items)} item{'' if len(node.items) == 1 else 's'}"
    if names:
        message = f"no stage '{key}' (stages: {', '.join(names)}){did_you_mean(key, names)}"
    elif key.isdecimal():
        message = f"'{dotted(done)}' has {many}, counted from 0, and no item {key}"
    else:
        message = f"'{dotted(done)}' is a list of {many}; write {dotted(done)}.0, or give the whole list: {dotted(done)}=[…]"
    raise ConfigError([Problem(place, dotted((*done, key)), message)])


def _stage_names(node: Node) -> Mapping[str, int]:
    names = {}
    for index, stage in enumerate(node.items or ()):
        name = stage.get("name")
        names[str(name.value) if name is not None else "main"] = index
    return names


CHOICE = ("iterations", "epochs")


@dataclass(frozen=True)
class Resolved:
    """A file with its defaults merged into its stages.

    Attributes:
        run: the run's keys, and ``stages``: a tree of the shape of :class:`~dadkit.config.schema.RunConfig`.
        stages: the stages of ``run`` that are mappings, by their index.
        defaults: the stage keys of the top level, as they were written.
        multiple: the file has a ``stages`` list (so ``defaults`` are not a stage themselves).
    """

    run: Node
    stages: dict[int, Node]
    defaults: Node
    multiple: bool


def resolve_stages(root: Node) -> Resolved:
    """Merge the defaults of ``root``, a mapping, into its stages."""
    assert root.mapping is not None
    written = root.mapping
    defaults = _fill(root.with_items({key: value for key, value in written.items() if key in StageFields.model_fields}))
    rest = {key: _named(key, value) for key, value in written.items() if key not in StageFields.model_fields}
    listed = rest.get("stages")
    if listed is None or listed.value is None or listed.items == ():
        only = _fill(defaults, whole=True)
        run = root.with_items({**rest, "stages": Node((only,), root.place, root.path)})
        return Resolved(run, {0: only}, defaults, multiple=False)
    if listed.items is None:  # the schema will say so
        return Resolved(root.with_items(rest), {}, defaults, multiple=True)
    merged = tuple(_fill(merge(defaults, item), whole=True) for item in listed.items)
    run = root.with_items({**rest, "stages": listed.with_items(merged)})
    stages = {index: stage for index, stage in enumerate(merged) if stage.mapping is not None}
    return Resolved(run, stages, defaults, multiple=True)


def _named(key: str, value: Node) -> Node:
    """In the run's lists of components, a bare name is short for ``{name: NAME}``."""
    if value.items is None or key not in RunFields.model_fields or not kinds_of(RunFields.model_fields[key]):
        return value
    items = (item.with_items({"name": item}) if isinstance(item.value, str) else item for item in value.items)
    return value.with_items(tuple(items))


def other_choice(key: str, value: Node | None) -> str | None:
    """``epochs`` where ``value`` is given for ``iterations``, and the other way round; None for every other key."""
    return CHOICE[1 - CHOICE.index(key)] if key in CHOICE and value is not None and value.value is not None else None


_SLOTS = frozenset(slot_paths(RunFile))
_OWN_DEFAULTS: Mapping[str, Any] = StageFields().model_dump()


def merge(default: Node, own: Node, path: tuple[str, ...] = ()) -> Node:
    """``own`` laid over ``default``: two stages, two files, or (``path``) the values under a key of theirs."""
    if default.mapping is None or own.mapping is None:
        return own
    if path in _SLOTS and _names_another(default, own):
        return own
    merged: dict[str, Node] = dict(default.mapping)
    if not path:
        for key in CHOICE:
            merged.pop(other_choice(key, own.mapping.get(key)) or "", None)
    for key, value in own.mapping.items():
        merged[key] = merge(merged[key], value, (*path, key)) if key in merged else value
    return own.with_items(merged)


def _fill(own: Node, default: Mapping[str, Any] = _OWN_DEFAULTS, path: tuple[str, ...] = (), *, whole: bool = False) -> Node:
    """Returns ``own`` with the mappings in it complete, and (``whole``) with the keys of a stage that it does not give.

    A value that is filled in has the place of the mapping it is filled into.
    """
    if own.mapping is None or (path in _SLOTS and _names_another(_unwritten(default, own), own)):
        return own
    filled = dict(own.mapping)
    for key, value in default.items():
        if key in filled:
            filled[key] = _fill(filled[key], value, (*path, key)) if isinstance(value, dict) else filled[key]
        elif path or whole:
            filled[key] = _unwritten(value, own, key)
    return own.with_items(filled)


def _unwritten(value: Any, beside: Node, *key: str) -> Node:
    """Returns a default as a tree with the place of ``beside``."""
    path = (*beside.path, *key)
    node = Node(None, beside.place, path, written=False)
    if isinstance(value, dict):
        return node.with_items({name: _unwritten(item, node, name) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return node.with_items(tuple(_unwritten(item, node, str(index)) for index, item in enumerate(value)))
    return replace(node, value=value)


def _names_another(default: Node, own: Node) -> bool:
    before, after = _source(default), _source(own)
    return any(before) and any(after) and before != after


def _source(node: Node) -> tuple[Any, Any]:
    name, stage = node.get("name"), node.get("stage")
    return (name.value if name else None, stage.value if stage else None)


_EXTENDS = "extends"


def extend(root: Node, folder: Path, seen: tuple[Path, ...] = ()) -> tuple[Node, list[Problem], frozenset[str]]:
    """``root`` laid over the file that it extends, if it extends one.

    Args:
        root: a file's mapping.
        folder: the folder of that file; what it extends is named relative to this.
        seen: the files on the way here, resolved.

    Returns:
        The whole mapping, without ``extends``; problems that did not keep it from being read; and the sources of those values
        that are meant as changes (empty if nothing is extended).

    Raises:
        ConfigError: the other file cannot be read.
    """
    assert root.mapping is not None
    own = root.with_items({key: value for key, value in root.mapping.items() if key != _EXTENDS})
    named = root.get(_EXTENDS)
    if named is None or named.value is None:
        return own, [], frozenset()
    if not isinstance(named.value, str):
        raise ConfigError([named.problem(f"must be the path of another file, got {describe(named)}")])
    path = Path(os.path.normpath(folder / named.value))
    if not path.is_file():
        raise ConfigError([named.problem(f"there is no file {path}; the path is relative to the folder of this file")])
    if path.resolve() in seen:
        raise ConfigError([named.problem(f"{path} extends this file as well; one of them must do without the other")])
    base, problems = read_file(path)
    base, found, changes = extend(base, path.parent, (*seen, path.resolve()))
    merged, more = _lay_over(base, own)
    return merged, [*problems, *found, *more], changes | {root.place.source}


def _lay_over(base: Node, own: Node) -> tuple[Node, list[Problem]]:
    assert base.mapping is not None
    assert own.mapping is not None
    base = base.with_items({key: value for key, value in base.mapping.items() if key != "name"})
    stages = own.get("stages")
    if stages is None or stages.mapping is None:
        return merge(base, own), []
    changed, problems = _change_stages(base.get("stages"), stages)
    return merge(base, own.with_items({**own.mapping, "stages": changed})), problems


def _change_stages(base: Node | None, changes: Node) -> tuple[Node, list[Problem]]:
    """Returns the other file's list of stages with the changes in it."""
    assert changes.mapping is not None
    items = base.items if base is not None else None
    if base is None or not items:
        message = "the file that this one extends has no stages; write the changes at the top level"
        return Node((), changes.place, changes.path, changes.key), [changes.problem(message)]
    names = ["main" if (name := stage.get("name")) is None else str(name.value) for stage in items]
    problems = [
        change.problem(f"no stage '{name}' (stages: {', '.join(names)}){did_you_mean(name, names)}", at_key=True)
        for name, change in changes.mapping.items()
        if name not in names
    ]
    merged = [
        merge(stage, changes.mapping[name]) if name in changes.mapping else stage
        for name, stage in zip(names, items, strict=True)
    ]
    return base.with_items(tuple(merged)), problems


class Lookup(Protocol):
    """The components that a run may name; a :class:`~dadkit.config.components.Components`."""

    def find(self, kind: str, name: str) -> Component | None:
        """Returns the registered component, or None where there is no such thing (which is reported elsewhere)."""

    def load(self, component: Component) -> Any:
        """Returns the class or function that builds a component; None if it cannot be imported."""

    def build(self, component: Component | None, options: Mapping[str, Any]) -> Any:
        """Returns a component that is light to build; None where there is none, or its options are wrong."""


@dataclass(frozen=True)
class StageView:
    """A stage as far as it is valid.

    Attributes:
        name: its name, or None where that is broken.
        node: as it was written, defaults merged in.
        fields: its values; those named in ``broken`` are the schema's defaults instead.
        broken: keys whose values are not valid.
    """

    name: str | None
    node: Node
    fields: StageFields
    broken: frozenset[str] = frozenset()

    def problem(self, path: KeyPath, message: str) -> Problem:
        """Returns a problem at ``path``, or at its nearest ancestor that was written down."""
        node = self.node.nearest(path)
        existing = next(count for count in range(len(path), -1, -1) if self.node.find(path[:count]) is not None)
        return Problem(node.place, dotted((*node.path, *path[existing:])), message)
