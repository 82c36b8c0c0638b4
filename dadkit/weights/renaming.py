"""From the names and the parts in a weight file to a model's own parameters.

Programs name, cut and chunk the same parameters differently: one file holds query, key and value apart, another together. A
plugin writes down a table of rules for each layout that it reads, and :func:`assemble` makes the state dict that
:func:`~dadkit.weights.load_strict` takes.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from dadkit.weights.errors import WeightsError

__all__ = ["Place", "Rule", "Target", "assemble", "compile_rules", "locate"]


class Place(NamedTuple):
    """Where a tensor of a file belongs: it is part ``part`` of ``parts``, along the first axis, of our parameter ``name``."""

    name: str
    part: int = 0
    parts: int = 1

    def take(self, state: Mapping[str, Tensor]) -> Tensor:
        """Returns the file's tensor, cut out of a state dict in our names: the way back."""
        return state[self.name].chunk(self.parts)[self.part]


Target = str | Callable[[re.Match[str]], str | Place | None] | None
"""A template with \\1, \\2 for the pattern's groups; a function of the match; or None for what takes no part."""

Rule = tuple[re.Pattern[str], Target]
"""A pattern of whole names, and what becomes of the names that fit it."""


def compile_rules(table: Mapping[str, Target]) -> list[Rule]:
    """Returns a table of patterns as rules, in its order."""
    return [(re.compile(pattern), target) for pattern, target in table.items()]


def locate(name: str, rules: Sequence[Rule]) -> Place | None:
    """Returns where the tensor of that name belongs by the first rule with a pattern that fits the whole name.

    Returns:
        Its place, or None if it takes no part. A name that no rule fits stays as it is, so that a strict load reports it.
    """
    for pattern, target in rules:
        if match := pattern.fullmatch(name):
            found = target(match) if callable(target) else target and match.expand(target)
            return found if isinstance(found, Place) or found is None else Place(found)
    return Place(name)


def assemble(state: Mapping[str, Tensor], rules: Sequence[Rule]) -> dict[str, Tensor]:
    """Returns a state dict under other names, its parts joined.

    Args:
        state: name in the file -> tensor.
        rules: where each belongs, as for :func:`locate`.

    Returns:
        Our name -> tensor. A parameter of which the file lacks a part stays under the names of the parts that are there, and a
        name that no rule fits stays as it is: a strict load then reports them.

    Raises:
        WeightsError: two tensors claim one place.

    Example:
        >>> rules = compile_rules({r"old\\.(w|b)": lambda match: Place("new", "wb".index(match[1]), 2), r"fc\\..+": None})
        >>> assemble({"old.b": torch.ones(1), "old.w": torch.zeros(1), "fc.bias": torch.ones(1)}, rules)
        {'new': tensor([0., 1.])}
    """
    found: dict[str, dict[int, str]] = defaultdict(dict)  # our name -> part number -> name in the file
    counts: dict[str, int] = {}
    for source in state:
        place = locate(source, rules)
        if place is None:
            continue
        first = found[place.name].setdefault(place.part, source)
        if first != source:
            raise WeightsError(f"the file holds '{place.name}' twice, as '{first}' and as '{source}'")
        counts[place.name] = place.parts
    answer: dict[str, Tensor] = {}
    for name, sources in found.items():
        if len(sources) < counts[name]:
            answer |= {source: state[source] for source in sources.values()}
        elif len(sources) == 1:
            answer[name] = state[sources[0]]
        else:
            answer[name] = torch.cat([state[sources[part]] for part in range(len(sources))])
    return answer
