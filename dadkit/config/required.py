"""Values that a file leaves to its user: ``root: ??? folder of photographs``.

A recipe cannot know where somebody's data and weights lie. It says so at the key, in words, and whoever trains it without
giving the value gets all such keys in one message.
"""

from __future__ import annotations

from dadkit.config.problems import Problem
from dadkit.config.tree import Node

__all__ = ["MARK", "missing_values"]

MARK = "???"


def missing_values(run: Node) -> list[Problem]:
    """A problem for every value of the tree that is still ``??? what it should be``."""
    problems = {}
    for node in run.walk():
        if isinstance(node.value, str) and node.value.startswith(MARK):
            what = node.value.removeprefix(MARK).strip()
            text = f"must be given{': ' + what if what else ''}; write {node.dotted}=… behind the file, or in it"
            # A default stands in several stages, but was written, and is to be given, once.
            problems[node.place] = node.problem(text)
    return list(problems.values())
