"""From the names in released files to ours, which are the official ones as timm spells them.

Layouts, told apart name by name, so that no one has to say which file is which:

* official ``.pth`` (Depth Anything V1, V2; Distill Any Depth small and base): ``pretrained.blocks.3…``, ``depth_head…``
* Distill Any Depth large: ``backbone.blocks.0.3…``, where the 0 counts chunks of blocks
* Hugging Face, on disk: ``backbone.encoder.layer.3.attention.attention.query…``, ``neck…``, ``head…``
* Hugging Face, in memory since transformers 5: ``….attention.q_proj…``
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from dadkit.weights import WeightsError
from dadkit_dav2.sizes import SIZES

__all__ = ["ENCODER", "HEAD", "Place", "locate", "looks_like", "to_model"]

ENCODER = "pretrained."
HEAD = "depth_head."


class Place(NamedTuple):
    """Where a tensor of a file belongs: it is part ``part`` of ``parts``, along the first axis, of our parameter ``name``."""

    name: str
    part: int = 0
    parts: int = 1


# Order matters only where one pattern is a special case of a later one. Each is tried on the whole name without the
# trailing ".weight", ".bias"; \1, \2 are the pattern's groups.
_WHOLE = [
    (re.compile(pattern), target)
    for pattern, target in {
        # Official and Distill Any Depth large: a chunk number and another prefix, and timm's names for giant's SwiGLU.
        r"(?:pretrained|backbone)\.blocks\.(?:\d+\.)?(\d+)\.mlp\.w12": rf"{ENCODER}blocks.\1.mlp.fc1",
        r"(?:pretrained|backbone)\.blocks\.(?:\d+\.)?(\d+)\.mlp\.w3": rf"{ENCODER}blocks.\1.mlp.fc2",
        r"(?:pretrained|backbone)\.blocks\.(?:\d+\.)?(\d+)\.(\D.*)": rf"{ENCODER}blocks.\1.\2",
        r"(?:pretrained|backbone)\.(cls_token|pos_embed|patch_embed\.proj|norm)": rf"{ENCODER}\1",
        r"depth_head\.(.+)": rf"{HEAD}\1",
        # Hugging Face, encoder.
        r"backbone\.embeddings\.cls_token": f"{ENCODER}cls_token",
        r"backbone\.embeddings\.position_embeddings": f"{ENCODER}pos_embed",
        r"backbone\.embeddings\.patch_embeddings\.projection": f"{ENCODER}patch_embed.proj",
        r"backbone\.encoder\.layer\.(\d+)\.attention\.(?:output\.dense|o_proj)": rf"{ENCODER}blocks.\1.attn.proj",
        r"backbone\.encoder\.layer\.(\d+)\.layer_scale([12])\.lambda1": rf"{ENCODER}blocks.\1.ls\2.gamma",
        r"backbone\.encoder\.layer\.(\d+)\.(norm[12]|mlp\.fc[12])": rf"{ENCODER}blocks.\1.\2",
        r"backbone\.encoder\.layer\.(\d+)\.mlp\.weights_in": rf"{ENCODER}blocks.\1.mlp.fc1",
        r"backbone\.encoder\.layer\.(\d+)\.mlp\.(?:weights_out|down_proj)": rf"{ENCODER}blocks.\1.mlp.fc2",
        r"backbone\.layernorm": f"{ENCODER}norm",
        # Hugging Face, head.
        r"neck\.reassemble_stage\.layers\.(\d)\.projection": rf"{HEAD}projects.\1",
        r"neck\.reassemble_stage\.layers\.(\d)\.resize": rf"{HEAD}resize_layers.\1",
        r"head\.conv1": f"{HEAD}scratch.output_conv1",
        r"head\.conv2": f"{HEAD}scratch.output_conv2.0",
        r"head\.conv3": f"{HEAD}scratch.output_conv2.2",
    }.items()
]
_CONV = re.compile(r"neck\.convs\.(\d)")
_FUSION = re.compile(r"neck\.fusion_stage\.layers\.(\d)\.(projection|residual_layer([12])\.convolution([12]))")
_QKV = re.compile(r"backbone\.encoder\.layer\.(\d+)\.attention\.(?:attention\.)?(query|key|value|q_proj|k_proj|v_proj)")
_GATED = re.compile(r"backbone\.encoder\.layer\.(\d+)\.mlp\.(gate|up)_proj")
# Used by DINOv2's own training only; a depth model never masks a token.
_UNUSED = re.compile(r"(?:pretrained|backbone|backbone\.embeddings)\.mask_token")


def locate(name: str) -> Place | None:
    """Where the tensor that a file calls ``name`` belongs in our model.

    Returns:
        Its place; None for the unused mask token; a name in no known layout stays as it is.
    """
    if _UNUSED.fullmatch(name):
        return None
    stem, dot, leaf = name.rpartition(".")
    if leaf not in ("weight", "bias"):
        stem, dot, leaf = name, "", ""

    def place(target: str, part: int = 0, parts: int = 1) -> Place:
        return Place(f"{target}{dot}{leaf}", part, parts)

    if match := _QKV.fullmatch(stem):
        return place(f"{ENCODER}blocks.{match[1]}.attn.qkv", "qkv".index(match[2][0]), 3)
    if match := _GATED.fullmatch(stem):
        return place(f"{ENCODER}blocks.{match[1]}.mlp.fc1", ("gate", "up").index(match[2]), 2)
    if match := _CONV.fullmatch(stem):
        return place(f"{HEAD}scratch.layer{int(match[1]) + 1}_rn")
    if match := _FUSION.fullmatch(stem):
        inner = "out_conv" if match[2] == "projection" else f"resConfUnit{match[3]}.conv{match[4]}"
        return place(f"{HEAD}scratch.refinenet{4 - int(match[1])}.{inner}")
    for pattern, target in _WHOLE:
        if match := pattern.fullmatch(stem):
            return place(match.expand(target))
    return place(stem)


def to_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in any layout as one in ours.

    Args:
        state: name in the file -> tensor.

    Returns:
        Name in our model -> tensor. A parameter of which the file lacks a part stays under the names of the parts that are
        there, and a name in no known layout stays as it is: a strict load then reports them.

    Raises:
        WeightsError: two tensors claim one place.
    """
    found: dict[str, dict[int, str]] = defaultdict(dict)  # our name -> part number -> name in the file
    counts: dict[str, int] = {}
    for source in state:
        place = locate(source)
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


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """The size that a state dict in our names belongs to, by its width and number of blocks; None = no Depth Anything."""
    width = state[f"{ENCODER}cls_token"].shape[-1] if f"{ENCODER}cls_token" in state else None
    depth = _blocks(state)
    return next((name for name, size in SIZES.items() if (size.width, size.depth) == (width, depth)), None)


def _blocks(names: Iterable[str]) -> int:
    found = (re.match(rf"{re.escape(ENCODER)}blocks\.(\d+)\.", name) for name in names)
    return len({match[1] for match in found if match})
