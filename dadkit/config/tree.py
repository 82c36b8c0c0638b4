"""A YAML document as a tree in which every value remembers where it was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dadkit.config.problems import Place, Problem

__all__ = ["KeyPath", "Node", "Scalar"]

Scalar: TypeAlias = bool | int | float | str | None
KeyPath: TypeAlias = tuple[str | int, ...]


@dataclass(frozen=True)
class Node:
    """One value of a document.

    Attributes:
        value: a scalar, a tuple of nodes (a YAML list), or a dict from keys to nodes (a YAML mapping). Never changed in place.
        place: where the value stands.
        path: its keys as they were written. A default that is merged into a stage keeps the path it has in the file.
        key: where its key stands; None for list items and the document itself.
        written: False for a default that was filled in; ``place`` then is that of the mapping around it.
    """

    value: Scalar | tuple[Node, ...] | Mapping[str, Node]
    place: Place
    path: KeyPath = ()
    key: Place | None = None
    written: bool = True

    @property
    def mapping(self) -> Mapping[str, Node] | None:
        """The value if it is a mapping, else None."""
        return self.value if isinstance(self.value, Mapping) else None

    @property
    def items(self) -> tuple[Node, ...] | None:
        """The value if it is a list, else None."""
        return self.value if isinstance(self.value, tuple) else None

    @property
    def dotted(self) -> str:
        """The path as it is printed: ``stages.0.optim.lr``."""
        return ".".join(str(part) for part in self.path)

    def get(self, key: str | int) -> Node | None:
        """The child under ``key``, or None."""
        if self.mapping is not None:
            return self.mapping.get(str(key))
        if self.items is not None and isinstance(key, int) and 0 <= key < len(self.items):
            return self.items[key]
        return None

    def find(self, path: Sequence[str | int]) -> Node | None:
        """The node at ``path`` below this one, or None."""
        node: Node | None = self
        for key in path:
            node = None if node is None else node.get(key)
        return node

    def nearest(self, path: Sequence[str | int]) -> Node:
        """The node at ``path``, or its nearest ancestor that was written down."""
        node = self
        for key in path:
            child = node.get(key)
            if child is None:
                break
            node = child
        return node

    def plain(self) -> Any:
        """The value without places: dicts, lists, scalars."""
        if self.mapping is not None:
            return {key: child.plain() for key, child in self.mapping.items()}
        if self.items is not None:
            return [child.plain() for child in self.items]
        return self.value

    def walk(self) -> Iterator[Node]:
        """This node and every node below it."""
        yield self
        for child in tuple(self.mapping.values()) if self.mapping is not None else self.items or ():
            yield from child.walk()

    def with_items(self, value: tuple[Node, ...] | Mapping[str, Node]) -> Node:
        """The same place with another list or mapping."""
        return replace(self, value=value)

    def problem(self, message: str, *, at_key: bool = False) -> Problem:
        """A problem with this value, or (``at_key``) with its key."""
        return Problem(self.key if at_key and self.key is not None else self.place, self.dotted, message)
