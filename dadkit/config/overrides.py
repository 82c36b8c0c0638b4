"""``key=value`` on the command line: the value is YAML, the key is dotted, and it lands in the tree before anything is checked.

``optim.lr=3e-4`` sets the default of every stage (a stage that gives its own keeps it), ``stages.student.optim.lr=3e-4`` and
``stages.1.optim.lr=3e-4`` set it in one stage. The value replaces what was there, a mapping as a whole.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from dadkit.config.reader import describe, read_text
from dadkit.config.stages import other_choice
from dadkit.config.tree import ConfigError, KeyPath, Node, Place, Problem, dotted
from dadkit.errors import did_you_mean

__all__ = ["apply_overrides", "parse_assignments", "parse_axis", "split_arguments"]

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
        is_override = re.match(_KEY + "=", argument) and not Path(argument).is_file()
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
