"""A stage as the checks see it: what is valid of it, and how to point at what is wrong."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dadkit.config.problems import Problem
from dadkit.config.schema import StageFields
from dadkit.config.tree import KeyPath, Node

if TYPE_CHECKING:
    from dadkit.plugin import Component

__all__ = ["Lookup", "StageView"]

Lookup = Callable[[str, str], "Component | None"]
"""(kind, name) -> the registered component, or None where there is no such thing (which is reported elsewhere)."""


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
    broken: frozenset[str]

    def problem(self, path: KeyPath, message: str) -> Problem:
        """A problem at ``path``, or at its nearest ancestor that was written down."""
        node = self.node.nearest(path)
        existing = next(count for count in range(len(path), -1, -1) if self.node.find(path[:count]) is not None)
        return Problem(node.place, ".".join(str(part) for part in (*node.path, *path[existing:])), message)
