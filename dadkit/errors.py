"""Errors that the user can put right. The command line prints their message, without a traceback, and exits with their code."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = [
    "DadkitError",
    "DataError",
    "SampleError",
    "UsageError",
    "WeightsError",
    "did_you_mean",
    "near_misses",
]


class DadkitError(Exception):
    """Something outside the program is wrong: a file, a key, a plugin. The message says what, where and what to do."""

    exit_code: int = 1


class UsageError(DadkitError):
    """The command itself is wrong: an option's value, or options that do not go together."""

    exit_code = 2


class DataError(DadkitError):
    """The data as a whole cannot be used: an empty folder, a missing dataset, too many unreadable files."""

    exit_code = 3


class SampleError(Exception):
    """One item of a dataset cannot be read (truncated, no image, a bomb, no valid depth); loaders skip and count it."""


def near_misses(word: str, known: Iterable[str], *, prefix: str = "") -> list[str]:
    """Returns at most three of ``known`` that ``word`` may be a slip of the pen for, the nearest first.

    Args:
        word: what was written.
        known: what could have been meant.
        prefix: what all of them begin with. It is left out of the comparison, in which it would make everything look alike.

    Example:
        >>> near_misses("studnt", ["student", "teachers", "students"])
        ['student', 'students']
    """
    from difflib import SequenceMatcher

    wanted = word[len(prefix) :].lower()
    scores = {name: SequenceMatcher(None, wanted, name[len(prefix) :].lower()).ratio() for name in set(known)}
    for name in scores:
        own = name[len(prefix) :].lower()
        if len(wanted) > 1 and own.startswith(wanted) and len(own) - len(wanted) <= 2:  # png of png8 and png16
            scores[name] = max(scores[name], 0.9)
    least = max(0.6, max(scores.values(), default=0.0) - 0.1)
    return sorted((name for name, score in scores.items() if score >= least), key=lambda name: (-scores[name], name))[:3]


def did_you_mean(word: str, known: Iterable[str], *, prefix: str = "", before: str = ", ") -> str:
    """Returns ``", did you mean 'x' or 'y'?"`` for the :func:`near_misses` of ``word``, or ``""`` if there is none."""
    near = near_misses(word, known, prefix=prefix)
    return f"{before}did you mean {' or '.join(map(repr, near))}?" if near else ""


class WeightsError(DadkitError):
    """A weight file cannot be had or read, or is not a file of this model."""

    exit_code = 2


def first_line(error: BaseException) -> str:
    """Returns what another library's error begins with: the rest is advice for another program."""
    return (str(error).splitlines() or [""])[0]
