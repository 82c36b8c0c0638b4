"""From the names in released files to ours.

* LeReS checkpoints: ``depth_model`` beside ``shift_model`` and ``focal_model``; in it, under ``module.`` where it was trained
  on several GPUs, ``depth_model.encoder_modules.encoder…`` and ``depth_model.decoder_modules…``
* LeReS training checkpoints: ``model_state_dict`` with the same names, and the auxiliary disparity branch, which is dropped
* ImageNet files of torchvision or timm: ``conv1…``, ``layer3.5.bn2…``, and a classifier ``fc…``, which is dropped
* our own students: ``encoder…`` and ``decoder…``
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

from dadkit.weights import assemble, compile_rules
from dadkit_leres.network import ENCODERS

__all__ = ["CONTAINERS", "DECODER", "ENCODER", "is_official", "looks_like", "to_model"]

ENCODER = "encoder."
DECODER = "decoder."
CONTAINERS = ("depth_model", "model_state_dict", "state_dict", "model")
"""Where files keep their weights; ``shift_model`` and ``focal_model``, which lie beside ``depth_model``, are left alone."""

_OFFICIAL = r"(?:depth_model\.)?(?:encoder_modules\.encoder|decoder_modules)\..+"
_RULES = compile_rules(
    {
        r"fc\..+|(?:depth_model\.)?auxi_modules\..+|losses\..+": None,
        r"(?:depth_model\.)?encoder_modules\.encoder\.(.+)": rf"{ENCODER}\1",
        r"(?:depth_model\.)?decoder_modules\.(.+)": rf"{DECODER}\1",
        r"(?:conv1|bn1|layer[1-4])\..+": rf"{ENCODER}\g<0>",
    }
)


def to_model(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns a state dict in any layout as one in ours. Result and errors as in :func:`dadkit.weights.assemble`."""
    return assemble(state, _RULES)


def is_official(state: Mapping[str, Tensor]) -> bool:
    """True if a file, names as in the file, is one of LeReS's own, so that its licence applies."""
    return any(re.fullmatch(_OFFICIAL, name) for name in state)


def looks_like(state: Mapping[str, Tensor]) -> str | None:
    """Returns the encoder that a state dict in our names has, by depth and grouping; None = no residual network of these."""
    weight = state.get(f"{ENCODER}layer1.0.conv2.weight")
    if weight is None or weight.ndim != 4:
        return None
    found = (re.match(rf"{re.escape(ENCODER)}layer3\.(\d+)\.", name) for name in state)
    blocks = len({match[1] for match in found if match})
    groups = weight.shape[0] // weight.shape[1]
    return next((name for name, net in ENCODERS.items() if (net.blocks[2], net.groups) == (blocks, groups)), None)
