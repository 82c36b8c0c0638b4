"""Which files a checkpoint consists of. Nothing here guesses: what is not found where it must lie is an error.

GenPercept's files come in two layouts: ``genpercept-models/unet_disparity_v2/diffusion_pytorch_model.safetensors``, with the
DPT head, if any, in the parent's ``dpt_head_identity/``; and folders of their own with ``unet/`` and, beside it,
``dpt_head_identity/``, or ``vae_decoder/`` and ``vae_post_quant_conv/`` of a fine-tuned decoder.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from dadkit.weights import WeightsError

__all__ = ["DecoderFiles", "decoder_files", "head_file", "network_config", "unet_file", "vae_file"]

_NETWORK = "diffusion_pytorch_model"
_ENDINGS = (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin")
_HEAD = Path("dpt_head_identity", "model.safetensors")
_HUB = "hf:"


class DecoderFiles(NamedTuple):
    """The two parts of a fine-tuned VAE decoder."""

    decoder: Path
    post_quant_conv: Path


def unet_file(weights: str | Path) -> str | Path:
    """The UNet's file that the option ``weights`` names; addresses on the hub are left to the reader."""
    if str(weights).startswith(_HUB):
        return weights
    path = Path(weights).expanduser()
    if not path.is_dir():
        return path  # the reader says what is wrong with it
    return _network(path) or _network(path / "unet") or _missing(path, f"a UNet ({_NETWORK}{_ENDINGS[0]}), nor has its unet/")


def head_file(weights: str | Path, head: str | Path | None) -> str | Path:
    """The DPT head's file: what the option ``head`` names, else where GenPercept puts it, in the folder or beside it."""
    if head is not None:
        return head if str(head).startswith(_HUB) else Path(head).expanduser()
    if str(weights).startswith(_HUB):
        raise WeightsError(
            f"genpercept/dpt: weights are on the hub, {weights}, so name the head's file too: head: hf://ORG/NAME/FILE"
        )
    path = Path(weights).expanduser()
    folder = path if path.is_dir() else path.parent
    found = [place / _HEAD for place in (folder, folder.parent) if (place / _HEAD).is_file()]
    if not found:
        raise WeightsError(
            f"genpercept/dpt: no {_HEAD} in {folder} nor beside it; give the head's file with head: PATH, or, if it has "
            "none, use genpercept/vae"
        )
    return found[0]


def decoder_files(weights: str | Path) -> DecoderFiles | None:
    """A fine-tuned VAE decoder in the folder ``weights``, both parts or none; None = the base folder's decoder."""
    folder = Path(weights).expanduser()
    if (folder / _HEAD).is_file():
        raise WeightsError(f"genpercept/vae: {folder} holds a DPT head, so no map comes from the VAE: use genpercept/dpt")
    files = DecoderFiles(*(folder / name / "model.safetensors" for name in ("vae_decoder", "vae_post_quant_conv")))
    there = [file for file in files if file.is_file()]
    if len(there) == 1:
        raise WeightsError(f"genpercept/vae: of a fine-tuned decoder's two parts {folder} holds only {there[0]}")
    return files if there else None


def vae_file(base: Path) -> Path:
    """The VAE's weights in the folder of Stable Diffusion."""
    return _network(base.expanduser() / "vae") or _missing(base / "vae", f"the VAE's weights ({_NETWORK}{_ENDINGS[0]})")


def network_config(base: Path, name: str) -> dict[str, Any]:
    """``unet/config.json`` or ``vae/config.json`` of the folder of Stable Diffusion."""
    file = base.expanduser() / name / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(
            f"genpercept: cannot read {file} ({error}); base must be the folder of Stable Diffusion 2.1 in diffusers' layout, "
            "with vae/ and unet/config.json"
        ) from error
    if not isinstance(config, dict):
        raise WeightsError(f"genpercept: {file} holds a {type(config).__name__}, not a network's configuration")
    return config


def _network(folder: Path) -> Path | None:
    return next((folder / f"{_NETWORK}{end}" for end in _ENDINGS if (folder / f"{_NETWORK}{end}").is_file()), None)


def _missing(folder: Path, what: str) -> NoReturn:
    holds = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) if folder.is_dir() else "no such folder"
    raise WeightsError(f"genpercept: {folder} does not hold {what}; it holds: {holds or 'nothing'}")
