"""From the names in released files to those of today's diffusers."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dadkit.weights import assemble, compile_rules

__all__ = ["unet_names", "vae_names"]

_WITHOUT_OUTPUT = compile_rules({r"(conv_norm_out|conv_out)\..+": None})
# The attention of files from before diffusers 0.17.
_OLD_ATTENTION = compile_rules(
    {
        rf"(.+\.attentions\.\d+)\.{old}\.(weight|bias)": rf"\1.{new}.\2"
        for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items()
    }
)


def unet_names(state: Mapping[str, Tensor], *, variant: str) -> dict[str, Tensor]:
    """A UNet file's names. Under a DPT head its last norm and convolution take no part, and are dropped if they are there."""
    return assemble(state, _WITHOUT_OUTPUT if variant == "dpt" else [])


def vae_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE file's names, with the attention of old files renamed."""
    return assemble(state, _OLD_ATTENTION)
