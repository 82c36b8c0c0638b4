"""From the names in released files to ours, which are the official ones as timm spells them; and back.

Layouts, told apart name by name, so that no one has to say which file is which:

* official ``.pth`` (Depth Anything V1, V2; Distill Any Depth small and base): ``pretrained.blocks.3…``, ``depth_head…``
* Distill Any Depth large: ``backbone.blocks.0.3…``, where the 0 counts chunks of blocks
* Hugging Face, on disk and in memory: ``backbone.encoder.layer.3…``, ``neck…``, ``head…``

What stands behind ``pretrained.`` or ``backbone.`` is DINOv2, and ``dadkit_dinov2.keys`` knows its names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dadkit_dinov2 import keys as dinov2
from torch import Tensor

from dadkit.weights import Place, assemble, compile_rules, locate
from dadkit_dav2.sizes import SIZES

__all__ = ["ENCODER", "HEAD", "RULES", "hf_names", "looks_like", "to_model"]

ENCODER = "pretrained."
HEAD = "depth_head."


def _encoder(match: re.Match[str]) -> Place | None:
    place = locate(match[1], dinov2.RULES)
    return None if place is None else place._replace(name=ENCODER + place.name)


def _fusion(match: re.Match[str]) -> str:
    module = "out_conv" if match[2] == "projection" else f"resConfUnit{match[3]}.conv{match[4]}"
    return f"{HEAD}scratch.refinenet{4 - int(match[1])}.{module}.{match[5]}"


RULES = compile_rules(
    {
        r"(?:pretrained|backbone)\.(.+)": _encoder,
        # Hugging Face's head.
        r"neck\.reassemble_stage\.layers\.(\d)\.projection\.(\w+)": rf"{HEAD}projects.\1.\2",
        r"neck\.reassemble_stage\.layers\.(\d)\.resize\.(\w+)": rf"{HEAD}resize_layers.\1.\2",
        r"neck\.convs\.(\d)\.(\w+)": lambda match: f"{HEAD}scratch.layer{int(match[1]) + 1}_rn.{match[2]}",
        r"neck\.fusion_stage\.layers\.(\d)\.(projection|residual_layer([12])\.convolution([12]))\.(\w+)": _fusion,
        r"head\.conv1\.(\w+)": rf"{HEAD}scratch.output_conv1.\1",
        r"head\.conv2\.(\w+)": rf"{HEAD}scratch.output_conv2.0.\1",
        r"head\.conv3\.(\w+)": rf"{HEAD}scratch.output_conv2.2.\1",
    }
)
"""From names in a file to ours; DINOv2's unused mask token takes no part."""


def to_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state dict in any layout as one in ours. Arguments and errors as in :func:`dadkit.weights.assemble`."""
    return assemble(state, RULES)


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """The size that a state dict in our names belongs to, by its width and number of blocks; None = no Depth Anything."""
    found = dinov2.measure(state, ENCODER)
    return next((name for name, size in SIZES.items() if (size.encoder.width, size.encoder.depth) == found), None)


def hf_names(names: Mapping[str, Tensor], *, swiglu: bool) -> Iterator[tuple[str, Place]]:
    """Hugging Face's names, as on disk, for the parameters of our model, each with the place it is taken from."""
    encoder = (name.removeprefix(ENCODER) for name in names if name.startswith(ENCODER))
    for theirs, place in dinov2.hf_names(encoder, swiglu=swiglu):
        yield f"backbone.{theirs}", place._replace(name=ENCODER + place.name)
    for name in names:
        if name.startswith(HEAD):
            theirs = _hf_head(name.removeprefix(HEAD))
            assert locate(theirs, RULES) == Place(name), f"{theirs} does not belong to {name}"
            yield theirs, Place(name)


_TO_HF = {
    r"projects\.(\d)\.(\w+)": r"neck.reassemble_stage.layers.\1.projection.\2",
    r"resize_layers\.(\d)\.(\w+)": r"neck.reassemble_stage.layers.\1.resize.\2",
    r"scratch\.output_conv1\.(\w+)": r"head.conv1.\1",
    r"scratch\.output_conv2\.0\.(\w+)": r"head.conv2.\1",
    r"scratch\.output_conv2\.2\.(\w+)": r"head.conv3.\1",
}


def _hf_head(name: str) -> str:
    if match := re.fullmatch(r"scratch\.layer(\d)_rn\.(\w+)", name):
        return f"neck.convs.{int(match[1]) - 1}.{match[2]}"
    if match := re.fullmatch(r"scratch\.refinenet(\d)\.(?:out_conv|resConfUnit([12])\.conv([12]))\.(\w+)", name):
        module = f"residual_layer{match[2]}.convolution{match[3]}" if match[2] else "projection"
        return f"neck.fusion_stage.layers.{4 - int(match[1])}.{module}.{match[4]}"
    for pattern, target in _TO_HF.items():
        if match := re.fullmatch(pattern, name):
            return match.expand(target)
    raise ValueError(f"'{name}' is no parameter of Depth Anything's head")
