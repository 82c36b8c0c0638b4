"""From the names in a file to ours, whichever of four layouts the file has; the names themselves tell which.

* official: ``pretrained.…`` and ``scratch.…``
* Hugging Face, on disk and in memory: ``dpt.…`` or ``backbone.…``, ``neck.…``, ``head.…``
* ours, of a trained student: ``backbone.…``, ``reassemble.…``, ``decoder.…``
* the backbone alone, with timm's names
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Literal

import torch
from torch import Tensor

from dadkit.weights import WeightsError
from dadkit_midas.huggingface import huggingface_rules
from dadkit_midas.official import backbone_rules, official_rules
from dadkit_midas.rules import Place, Rule, locate
from dadkit_midas.sizes import Size

__all__ = ["BACKBONE", "Layout", "layout", "places", "to_model"]

BACKBONE = "backbone."
"""Our parameters of the pre-trained part begin so; the others are the decoder's."""

Layout = Literal["official", "huggingface", "ours", "backbone"]


def layout(names: Iterable[str]) -> Layout:
    """Which layout a file of these names has."""
    starts = {name.partition(".")[0] for name in names}
    if starts & {"pretrained", "scratch"}:
        return "official"
    if "neck" in starts:
        return "huggingface"
    return "ours" if "decoder" in starts else "backbone"


def places(names: Iterable[str], size: Size) -> dict[str, Place | None]:
    """Where each name of a file belongs in this model; None for what takes no part in it."""
    names = list(names)
    rules: Mapping[Layout, list[Rule]] = {
        "official": official_rules(size),
        "huggingface": huggingface_rules(size),
        "ours": [],
        "backbone": backbone_rules(),
    }
    chosen = rules[layout(names)]
    return {name: locate(name, chosen) for name in names}


def to_model(state: Mapping[str, Tensor], size: Size) -> dict[str, Tensor]:
    """A state dict in any layout as one in ours.

    Args:
        state: name in the file -> tensor.
        size: the model it is for.

    Returns:
        Name in our model -> tensor. A parameter of which the file lacks a part stays under the names of the parts that are
        there, and a name in no known layout stays as it is: a strict load then reports them.

    Raises:
        WeightsError: two tensors claim one place.
    """
    found: dict[str, dict[int, str]] = defaultdict(dict)  # our name -> part number -> name in the file
    counts: dict[str, int] = {}
    for source, place in places(state, size).items():
        if place is None:
            continue
        first = found[place.name].setdefault(place.part, source)
        if first != source:
            raise WeightsError(f"the file holds '{place.name}' twice, as '{first}' and as '{source}'")
        counts[place.name] = place.parts
    model: dict[str, Tensor] = {}
    for name, sources in found.items():
        if len(sources) < counts[name]:
            model |= {source: state[source] for source in sources.values()}
        elif len(sources) == 1:
            model[name] = state[sources[0]]
        else:
            model[name] = torch.cat([state[sources[part]] for part in range(len(sources))])
    return model
