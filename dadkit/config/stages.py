"""Stages: what stands at the top level of a file is the default of every stage.

The rules, on the tree as it was written, so that every value keeps its place:

* a stage's mapping is merged key by key into the default;
* a mapping that names another component (another ``name``, or another ``stage``) replaces the default, options and all;
* a list replaces the default's list, and so does any other value;
* below the file's defaults lie dadkit's own, by the same rules: ``contexts: {options: {n: 2}}`` is still ``local-global``, and
  ``local_global: {trim: 0.1}`` still has its weight of 0.5;
* ``iterations`` and ``epochs`` are one choice: a stage that gives one of them drops the default's other one;
* a file without ``stages`` has one stage, ``main``, made of the defaults alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from dadkit.config.schema import RunFile, StageFields
from dadkit.config.slots import slot_paths
from dadkit.config.tree import Node

__all__ = ["CHOICE", "Resolved", "merge", "other_choice", "resolve_stages"]

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
    rest = {key: value for key, value in written.items() if key not in StageFields.model_fields}
    listed = rest.get("stages")
    if listed is None or listed.value is None or listed.items == ():
        run = root.with_items({**rest, "stages": Node((defaults,), root.place, root.path)})
        return Resolved(run, {0: defaults}, defaults, multiple=False)
    if listed.items is None:  # the schema will say so
        return Resolved(root.with_items(rest), {}, defaults, multiple=True)
    merged = tuple(_fill(merge(defaults, item)) for item in listed.items)
    run = root.with_items({**rest, "stages": listed.with_items(merged)})
    stages = {index: stage for index, stage in enumerate(merged) if stage.mapping is not None}
    return Resolved(run, stages, defaults, multiple=True)


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


def _fill(own: Node, default: Mapping[str, Any] = _OWN_DEFAULTS, path: tuple[str, ...] = ()) -> Node:
    """Complete the mappings that stand in ``own``. A value that is filled in has the place of the mapping it is filled into."""
    if own.mapping is None or (path in _SLOTS and _names_another(_unwritten(default, own), own)):
        return own
    filled = dict(own.mapping)
    for key, value in default.items():
        if key in filled:
            filled[key] = _fill(filled[key], value, (*path, key)) if isinstance(value, dict) else filled[key]
        elif path:  # a key of the stage itself that is not there needs no filling: the schema has the same default
            filled[key] = _unwritten(value, own, key)
    return own.with_items(filled)


def _unwritten(value: Any, beside: Node, *key: str) -> Node:
    """A default as a tree that stands where ``beside`` does."""
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
