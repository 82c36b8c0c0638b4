"""UNet, VAE and head, built from a configuration and filled from files, wholly or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import Tensor, nn

from dadkit.weights import WeightsError, assemble, compile_rules, load_strict, read_weights
from dadkit_genpercept.architecture import ARCHITECTURES
from dadkit_genpercept.files import decoder_files, head_file, network_config, unet_file, vae_file
from dadkit_genpercept.head import DPTHead

__all__ = ["build_head", "build_unet", "build_vae", "unet_names", "vae_names"]

# From the names in released files to those of today's diffusers.
_WITHOUT_OUTPUT = compile_rules({r"(conv_norm_out|conv_out)\..+": None})
# The attention of files from before diffusers 0.17.
_OLD_ATTENTION = compile_rules(
    {
        rf"(.+\.attentions\.\d+)\.{old}\.(weight|bias)": rf"\1.{new}.\2"
        for old, new in {"query": "to_q", "key": "to_k", "value": "to_v", "proj_attn": "to_out.0"}.items()
    }
)


def build_unet(architecture: str, base: Path | None, weights: str | Path | None, *, variant: str) -> UNet2DConditionModel:
    """The UNet, from the configuration in ``base`` if that is given; under a DPT head without its last two layers."""
    config = ARCHITECTURES[architecture].unet if base is None else network_config(base, "unet")
    unet = UNet2DConditionModel.from_config(dict(config))
    if (unet.config.in_channels, unet.config.out_channels) != (4, 4):
        raise WeightsError(
            f"genpercept: the UNet in {base} takes {unet.config.in_channels} channels and gives {unet.config.out_channels}; "
            "GenPercept's takes and gives 4, as Stable Diffusion 2.1 (Marigold's takes 8)"
        )
    if variant == "dpt":
        unet.conv_norm_out = None
        unet.conv_out = nn.Identity()
    if weights is not None:
        file = unet_file(weights)
        state = unet_names(_read(file, variant), variant=variant)
        load_strict(unet, state, source=file, hint=_unet_hint(state, variant))
    return unet


def build_vae(architecture: str, base: Path | None, weights: str | Path | None, *, variant: str) -> AutoencoderKL:
    """The VAE with the weights in ``base``, or those of a fine-tuned decoder in ``weights``. A DPT head needs no decoder."""
    config = ARCHITECTURES[architecture].vae if base is None else network_config(base, "vae")
    vae = AutoencoderKL.from_config(dict(config))
    if base is not None:
        file = vae_file(base)
        load_strict(
            vae,
            vae_names(_read(file, variant)),
            source=file,
            hint=f"For genpercept/{variant}, base must be Stable Diffusion 2.1.",
        )
    if variant == "dpt":
        vae.decoder = None
        vae.post_quant_conv = None
    elif weights is not None and (files := decoder_files(weights)) is not None:
        load_strict(vae.decoder, vae_names(_read(files.decoder, variant)), source=files.decoder)
        load_strict(vae.post_quant_conv, _read(files.post_quant_conv, variant), source=files.post_quant_conv)
    return vae


def build_head(architecture: str, unet: UNet2DConditionModel, weights: str | Path | None, head: str | Path | None) -> DPTHead:
    """The DPT head on the UNet's up blocks."""
    module = DPTHead(tuple(unet.config.block_out_channels), ARCHITECTURES[architecture].head_width)
    if weights is not None:
        file = head_file(weights, head)
        load_strict(module, _read(file, "dpt"), source=file, hint="It is not a head of genpercept/dpt for this UNet.")
    return module


def _read(file: str | Path, variant: str) -> dict[str, Tensor]:
    try:
        return read_weights(file)
    except WeightsError as error:
        raise WeightsError(f"genpercept/{variant}: {error}") from error


def _unet_hint(state: Mapping[str, Tensor], variant: str) -> str:
    first = state.get("conv_in.weight")
    if first is None:
        return "It does not look like a UNet of diffusers."
    if first.ndim == 4 and first.shape[1] == 8:
        return "It looks like Marigold's UNet, which takes 8 channels; that of genpercept/… takes 4."
    if variant == "vae" and "conv_out.weight" not in state:
        return "It has no output layer, so it belongs to a DPT head: use genpercept/dpt."
    return f"It is a UNet of diffusers, but genpercept/{variant} needs one of the configuration in base, unet/config.json."


def unet_names(state: Mapping[str, Tensor], *, variant: str) -> dict[str, Tensor]:
    """A UNet file's names. Under a DPT head its last norm and convolution take no part, and are dropped if they are there."""
    return assemble(state, _WITHOUT_OUTPUT if variant == "dpt" else [])


def vae_names(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A VAE file's names, with the attention of old files renamed."""
    return assemble(state, _OLD_ATTENTION)
