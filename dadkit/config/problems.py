"""What is wrong with a configuration, and where: all of it at once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from dadkit.errors import DadkitError

__all__ = ["ConfigError", "Place", "Problem", "did_you_mean"]


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


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """``", did you mean 'x'?"`` for the near misses of ``word`` among ``known``, best first, or ``""`` if there is none."""
    near = get_close_matches(word, sorted(set(known)), n=3, cutoff=0.6)
    return f", did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
