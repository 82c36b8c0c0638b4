"""From the names and the parts in a weight file to a model's own parameters.

Training code saves a state dict inside containers and with wrappers' words before its names; :func:`open_containers` and
:func:`strip_wrappers` take both off. Programs name, cut and chunk the same parameters differently: one file holds query, key
and value apart, another together. A plugin writes down a table of rules for each layout that it reads, and :func:`assemble`
makes the state dict that :func:`~dadkit.weights.load_strict` takes.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from dadkit.errors import WeightsError

__all__ = [
    "Place",
    "Rule",
    "Target",
    "assemble",
    "compile_rules",
    "locate",
    "open_containers",
    "strip_wrappers",
    "without_prefixes",
]


_CONTAINERS = ("state_dict", "model_state_dict", "model", "net", "network", "module", "params", "weights", "student")
# An exponential moving average of the weights is the better model, and the one that training code evaluates.
_AVERAGED = ("ema", "model_ema", "ema_model", "state_dict_ema", "ema_state_dict", "params_ema", "shadow")
# Words that no model has in its own names: DataParallel and AveragedModel; torch.compile, Fabric, FSDP, activation checkpoints.
_MODULE = "module"
_INSIDE = frozenset({"_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def open_containers(saved: Mapping[str, Any], first: Sequence[str] = ()) -> tuple[dict[str, Tensor], list[str]]:
    """Returns the tensors of the state dict that a saved mapping is, or holds.

    Args:
        saved: what ``torch.load`` gave. Sparse tensors become dense; NumPy's arrays count where no tensors are.
        first: names of containers that are opened before all others, in order of preference.

    Returns:
        Name -> tensor, empty if there are none; and lines that say what was chosen where there was a choice.
    """
    wanted = [name for name in first if isinstance(saved.get(name), Mapping)]
    own = {
        str(name): value if value.layout == torch.strided else value.to_dense()
        for name, value in saved.items()
        if isinstance(value, Tensor)
    }
    if not wanted and any(value.ndim for value in own.values()):
        return own, []
    for name in dict.fromkeys((*wanted, *_CONTAINERS, *_AVERAGED)):
        if not isinstance(saved.get(name), Mapping):
            continue
        tensors, notes = open_containers(saved[name], first)
        if not tensors:
            continue
        averaged = next((word for word in _AVERAGED if word not in first and isinstance(saved.get(word), Mapping)), None)
        if averaged is not None and averaged != name:
            better, more = open_containers(saved[averaged], first)
            if strip_wrappers(better)[0].keys() == strip_wrappers(tensors)[0].keys():
                return better, [*more, f"took its averaged weights '{averaged}', not '{name}'"]
        return tensors, notes
    inside = {name: open_containers(value, first) for name, value in saved.items() if isinstance(value, Mapping)}
    found = {name: value for name, value in inside.items() if value[0] and "optim" not in str(name)}
    if len(found) == 1 and not own:
        ((name, (tensors, notes)),) = found.items()
        return tensors, [*notes, f"took its '{name}'"]
    if own or found:
        return own, []
    # Arrays beside tensors are curves and statistics; without any tensor they are the weights.
    arrays = {str(name): value for name, value in saved.items() if isinstance(value, np.ndarray) and value.dtype.kind in "biuf"}
    return {name: torch.from_numpy(value.astype(value.dtype.newbyteorder("="))) for name, value in arrays.items()}, []


def strip_wrappers(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], list[str]]:
    """Returns names without what DataParallel, ``torch.compile`` and their like put before them or between them.

    Of two copies of one model side by side (``model.…`` and ``model_ema.…``) the averaged one is taken, of a student and its
    teacher the student.

    Returns:
        Name -> tensor, and a line for each thing taken off.

    Example:
        >>> strip_wrappers({"module._orig_mod.fc.bias": torch.zeros(1), "n_averaged": torch.tensor(3)})
        ({'fc.bias': tensor([0.])}, ["took 'module._orig_mod.' off its names"])
    """
    found = dict(tensors)
    off: list[str] = []
    notes: list[str] = []
    while True:
        counters = [name for name, value in found.items() if "." not in name and value.ndim == 0]
        heads = {name.partition(".")[0] for name in found if name not in counters}
        if len(heads) == 1 and heads <= {_MODULE, *_INSIDE}:
            head = heads.pop()
        elif len(heads) == 2 and (heads & {*_AVERAGED} or heads == {"student", "teacher"}) and _are_copies(found, heads):
            head = next(word for word in (*_AVERAGED, "student") if word in heads)
            notes.append(f"took its copy '{head}' of the weights, not '{(heads - {head}).pop()}'")
        else:
            break
        if not (inner := _under(found, head)):
            break
        found = inner
        off.append(f"{head}.")
    if off:
        notes.append(f"took '{''.join(off)}' off its names")
    between = {name: ".".join(part for part in name.split(".") if part not in _INSIDE) for name in found}
    if any(old != new for old, new in between.items()) and len(set(between.values())) == len(between):
        words = sorted(_INSIDE & {part for name in found for part in name.split(".")})
        notes.append("took " + ", ".join(f"'{word}.'" for word in words) + " out of its names")
        found = {between[name]: value for name, value in found.items()}
    return found, notes


def without_prefixes(tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, dict[str, Tensor]]]:
    """Beginnings up to a full stop that all names share, or the most: others may be those of a loss beside the model.

    Returns:
        Pairs, the shortest beginning first: words for the log, and the tensors that have it, without it.

    Example:
        >>> tensors = {"depth.net.a.w": torch.ones(1), "depth.net.b.w": torch.ones(1), "loss.w": torch.ones(1)}
        >>> [(words, list(found)) for words, found in without_prefixes(tensors)][0]
        ("took 'depth.' off its names and left out 1 other: loss.w", ['net.a.w', 'net.b.w'])
    """
    prefix, found = "", dict(tensors)
    while heads := Counter(name.partition(".")[0] for name in found if "." in name):
        head = heads.most_common(1)[0][0]
        if 2 * heads[head] <= len(found):
            return
        prefix, found = f"{prefix}{head}.", _under(found, head)
        left = [name for name in tensors if not name.startswith(prefix)]
        yield (
            f"took '{prefix}' off its names" + (f" and left out {len(left)} other: {', '.join(left[:3])}" if left else ""),
            found,
        )


def _are_copies(tensors: Mapping[str, Tensor], heads: set[str]) -> bool:
    return len({frozenset(_under(tensors, head)) for head in heads}) == 1


def _under(tensors: Mapping[str, Tensor], head: str) -> dict[str, Tensor]:
    return {name.removeprefix(f"{head}."): value for name, value in tensors.items() if name.startswith(f"{head}.")}


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
