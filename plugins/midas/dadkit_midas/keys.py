"""From the names in a file to ours, whichever of four layouts the file has; the names themselves tell which.

* official: ``pretrained.…`` and ``scratch.…``
* Hugging Face, on disk and in memory: ``dpt.…`` or ``backbone.…``, ``neck.…``, ``head.…``
* ours, of a trained student: ``backbone.…``, ``reassemble.…``, ``decoder.…``
* the backbone alone, with timm's names
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Literal

from torch import Tensor

from dadkit.weights import Place, Rule, assemble, locate
from dadkit_midas.huggingface import huggingface_rules
from dadkit_midas.official import backbone_rules, official_rules
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
    rules = _rules(names, size)
    return {name: locate(name, rules) for name in names}


def to_model(state: Mapping[str, Tensor], size: Size) -> dict[str, Tensor]:
    """A state dict in any layout as one in ours. Result and errors as in :func:`dadkit.weights.assemble`."""
    return assemble(state, _rules(state, size))


def _rules(names: Iterable[str], size: Size) -> list[Rule]:
    match layout(names):
        case "official":
            return official_rules(size)
        case "huggingface":
            return huggingface_rules(size)
        case "ours":
            return []
        case "backbone":
            return backbone_rules()
