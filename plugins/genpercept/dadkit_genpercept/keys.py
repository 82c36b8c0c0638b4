"""From the names in released files to those of today's diffusers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

__all__ = ["unet_names", "vae_names"]

_UNUSED_BY_THE_HEAD = ("conv_norm_out.", "conv_out.")
_OLD_ATTENTION = re.compile(r"(.+\.attentions\.\d+\.)(query|key|value|proj_attn)\.(weight|bias)")
_ATTENTION = {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}


def unet_names(state: Mapping[str, Tensor], *, variant: str) -> dict[str, Tensor]:
    """A UNet file's names. Under a DPT head its last norm and convolution take no part, and are dropped if they are there."""
    dropped = _UNUSED_BY_THE_HEAD if variant == "dpt" else ()
    return {name: tensor for name, tensor in state.items() if not (dropped and name.startswith(dropped))}


def vae_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE file's names, with the attention of files from before diffusers 0.17 renamed."""
    named = {}
    for name, tensor in state.items():
        if match := _OLD_ATTENTION.fullmatch(name):
            name = f"{match[1]}{_ATTENTION[match[2]]}.{match[3]}"
        named[name] = tensor
    return named
