"""A YAML document as a tree in which every value remembers where it was written, and what is wrong with it, all at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

from dadkit.errors import DadkitError

__all__ = ["ConfigError", "KeyPath", "Node", "Place", "Problem", "Scalar", "dotted"]

Scalar: TypeAlias = bool | int | float | str | None
KeyPath: TypeAlias = tuple[str | int, ...]


def dotted(path: Iterable[str | int]) -> str:
    """Returns a path as it is printed: ``stages.0.optim.lr``."""
    return ".".join(str(part) for part in path)


@dataclass(frozen=True, order=True)
class Place:
    """Where something was written.

    Attributes:
        order: 0 = in the file, n = in the n-th override; problems are printed in this order.
        line: line in the file, from 1; 0 = no line (an override, or the file as a whole).
        column: column in the line, from 1.
        source: the file's path, or ``override 'optim.lr=x'``.
    """

    order: int
    line: int
    column: int
    source: str

    def __str__(self) -> str:
        return f"{self.source}:{self.line}:{self.column}" if self.line else self.source


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake of the user's: where, at which key, what.

    Attributes:
        place: where it was written.
        path: dotted key, for instance ``stages.0.optim.lr``; empty for the file as a whole.
        message: what is wrong, what was found, what to do.
    """

    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        return ": ".join(part for part in (str(self.place), self.path, self.message) if part)


class ConfigError(DadkitError):
    """A configuration is wrong. Its text is a heading, then one line a problem, in the order of the file.

    Args:
        problems: what is wrong, in any order; the same problem said twice is kept once.

    Attributes:
        problems: the problems in the order of the file.
    """

    exit_code = 2

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems)))
        count = len(self.problems)
        heading = f"{count} problem{'' if count == 1 else 's'} in the configuration:"
        super().__init__("\n".join([heading, *map(str, self.problems)]))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        return type(self), (self.problems,)


@dataclass(frozen=True)
class Node:
    """One value of a document.

    Attributes:
        value: a scalar, a tuple of nodes (a YAML list), or a dict from keys to nodes (a YAML mapping). Never changed in place.
        place: where the value is written.
        path: its keys as they were written. A default that is merged into a stage keeps the path it has in the file.
        key: where its key is written; None for list items and the document itself.
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
        return dotted(self.path)

    def get(self, key: str | int) -> Node | None:
        """Returns the child under ``key``, or None."""
        if self.mapping is not None:
            return self.mapping.get(str(key))
        if self.items is not None and isinstance(key, int) and 0 <= key < len(self.items):
            return self.items[key]
        return None

    def find(self, path: Sequence[str | int]) -> Node | None:
        """Returns the node at ``path`` below this one, or None."""
        node: Node | None = self
        for key in path:
            node = None if node is None else node.get(key)
        return node

    def nearest(self, path: Sequence[str | int]) -> Node:
        """Returns the node at ``path``, or its nearest ancestor that was written down."""
        node = self
        for key in path:
            child = node.get(key)
            if child is None:
                break
            node = child
        return node

    def plain(self) -> Any:
        """Returns the value without places: dicts, lists, scalars."""
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
        """Returns the same place with another list or mapping."""
        return replace(self, value=value)

    def problem(self, message: str, *, at_key: bool = False) -> Problem:
        """Returns a problem with this value, or (``at_key``) with its key."""
        return Problem(self.key if at_key and self.key is not None else self.place, self.dotted, message)
