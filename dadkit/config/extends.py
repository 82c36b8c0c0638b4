"""``extends: base.yaml``: a file that says only in what it differs from another one.

The other file's values are the defaults of this one, under the rules by which a stage is laid over the file's defaults:
mappings merge, another component replaces, lists replace. Every value keeps the place where it was written, so messages name
the right file and line. Two keys are special:

* ``name`` is not taken over: a run is called as its own file is;
* ``stages`` may be a mapping here, from names of the other file's stages to changes in them.
"""

from __future__ import annotations

import os
from pathlib import Path

from dadkit.config.problems import ConfigError, Problem, did_you_mean
from dadkit.config.reader import describe, read_file
from dadkit.config.stages import merge
from dadkit.config.tree import Node

__all__ = ["KEY", "extend"]

KEY = "extends"


def extend(root: Node, folder: Path, seen: tuple[Path, ...] = ()) -> tuple[Node, list[Problem], frozenset[str]]:
    """``root`` laid over the file that it extends, if it extends one.

    Args:
        root: a file's mapping.
        folder: where that file lies; what it extends is named relative to this.
        seen: the files on the way here, resolved.

    Returns:
        The whole mapping, without ``extends``; problems that did not keep it from being read; and the sources of those values
        that are meant as changes (empty if nothing is extended).

    Raises:
        ConfigError: the other file cannot be read.
    """
    assert root.mapping is not None
    own = root.with_items({key: value for key, value in root.mapping.items() if key != KEY})
    named = root.get(KEY)
    if named is None or named.value is None:
        return own, [], frozenset()
    if not isinstance(named.value, str):
        raise ConfigError([named.problem(f"must be the path of another file, got {describe(named)}")])
    path = Path(os.path.normpath(folder / named.value))
    if not path.is_file():
        raise ConfigError([named.problem(f"there is no file {path}; the path is relative to the folder of this file")])
    if path.resolve() in seen:
        raise ConfigError([named.problem(f"{path} extends this file in turn; one of them must stand by itself")])
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
    """The other file's list of stages with the changes in it."""
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
