"""From the names in official files to ours."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from dadkit_dinov2 import keys as dinov2
from torch import Tensor

from dadkit.weights import assemble, compile_rules
from dadkit_moge.sizes import MODELS

__all__ = ["looks_like", "to_model"]

ENCODER = "encoder."
_HEADS = {"neck": "neck", "points_head": "points", "mask_head": "mask"}
_PARTS = {"input_blocks": "enter", "resamplers": "grow"}
_LAYERS = {"0": "norm1", "2": "conv1", "3": "norm2", "5": "conv2"}


def _pyramid(template: Callable[[re.Match[str]], str]) -> Callable[[re.Match[str]], str]:
    return lambda match: f"{_HEADS[match[1]]}.{template(match)}"


_STACK = r"(neck|points_head|mask_head)\."
_VERSION_2 = compile_rules(
    {
        r"encoder\.image_(?:mean|std)|normal_head\..+": None,
        r"encoder\.backbone\.(.+)": dinov2.inside(ENCODER),
        r"encoder\.output_projections\.(.+)": r"projections.\1",
        rf"{_STACK}(input_blocks|resamplers)\.(.+)": _pyramid(lambda m: f"{_PARTS[m[2]]}.{m[3]}"),
        rf"{_STACK}res_blocks\.(\d)\.(\d)\.layers\.(\d)\.(.+)": _pyramid(
            lambda m: f"refine.{m[2]}.{m[3]}.{_LAYERS[m[4]]}.{m[5]}"
        ),
        rf"{_STACK}output_blocks\.4\.(.+)": _pyramid(lambda m: f"out.{m[2]}"),
        r"scale_head\.(.+)": r"scale.\1",
    }
)
_VERSION_1 = compile_rules(
    {
        r"image_(?:mean|std)": None,
        r"backbone\.(.+)": dinov2.inside(ENCODER),
        r"head\.projects\.(.+)": r"projections.\1",
        r"head\.upsample_blocks\.(\d)\.0\.([01])\.(.+)": r"grow.\1.\2.\3",
        r"head\.upsample_blocks\.(\d)\.([12])\.layers\.(\d)\.(.+)": (
            lambda m: f"grow.{m[1]}.{int(m[2]) + 1}.{_LAYERS[m[3]]}.{m[4]}"
        ),
        r"head\.output_block\.([01])\.(.+)": lambda m: f"{('points', 'mask')[int(m[1])]}.{m[2]}",
    }
)


def to_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns an official state dict as one in our names. Result and errors as in :func:`dadkit.weights.assemble`."""
    first = any(name.startswith("head.upsample_blocks.") for name in state)
    return assemble(state, _VERSION_1 if first else _VERSION_2)


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """Returns the model that a state dict in our names belongs to; None = no MoGe."""
    first, second = "grow.0.0.weight" in state, "neck.enter.0.weight" in state
    found = dinov2.measure(state, ENCODER)
    for name, model in MODELS.items():
        if (model.encoder.width, model.encoder.depth) == found and (second if model.neck else first):
            return name
    return None
