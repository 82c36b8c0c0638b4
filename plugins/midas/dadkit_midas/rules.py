"""What a rule of a key mapping is: a pattern of a whole name, and what becomes of the names that fit it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

__all__ = ["Place", "Rule", "Target", "compiled", "counted_from_one", "locate"]


class Place(NamedTuple):
    """Where a tensor of a file belongs: it is part ``part`` of ``parts``, along the first axis, of our parameter ``name``."""

    name: str
    part: int = 0
    parts: int = 1


Target = str | Callable[[re.Match[str]], str | Place | None] | None
"""A template with \\1, \\2 for the pattern's groups; a function of the match; or None for what takes no part."""

Rule = tuple[re.Pattern[str], Target]


def compiled(table: Mapping[str, Target]) -> list[Rule]:
    """A table of patterns as rules."""
    return [(re.compile(pattern), target) for pattern, target in table.items()]


def counted_from_one(template: str) -> Callable[[re.Match[str]], str]:
    """``template`` filled with the first group, which the files count from 1 and we from 0, and the others as they are."""
    return lambda match: template.format(int(match[1]) - 1, *match.groups()[1:])


def locate(name: str, rules: Sequence[Rule]) -> Place | None:
    """Where the tensor of that name belongs by the first rule that fits the whole name.

    Returns:
        Its place, or None if it takes no part. A name that no rule fits stays as it is, so that a strict load reports it.
    """
    for pattern, target in rules:
        if match := pattern.fullmatch(name):
            found = target(match) if callable(target) else target and match.expand(target)
            return found if isinstance(found, Place) or found is None else Place(found)
    return Place(name)
