"""Which files a checkpoint consists of, and the embedding of the empty prompt. A file that is not where it must be is an error.

GenPercept's files come in two layouts: ``genpercept-models/unet_disparity_v2/diffusion_pytorch_model.safetensors``, with the
DPT head, if any, in the parent's ``dpt_head_identity/``; and folders of their own with ``unet/`` and, beside it,
``dpt_head_identity/``, or ``vae_decoder/`` and ``vae_post_quant_conv/`` of a fine-tuned decoder. Lotus's are one folder with
all networks of Stable Diffusion. The UNet is conditioned on the embedding of the empty prompt, which is read from a file or
computed once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import torch
from torch import Tensor

from dadkit.weights import WeightsError, read_weights

__all__ = [
    "DecoderFiles",
    "decoder_files",
    "empty_prompt",
    "head_file",
    "network_config",
    "own_folder",
    "unet_file",
    "vae_file",
]


_NETWORK = "diffusion_pytorch_model"
_ENDINGS = (".safetensors", ".bin", ".fp16.safetensors", ".fp16.bin")
_HEAD = Path("dpt_head_identity", "model.safetensors")
_HUB = "hf:"


class DecoderFiles(NamedTuple):
    """The two parts of a fine-tuned VAE decoder."""

    decoder: Path
    post_quant_conv: Path


def unet_file(weights: str | Path) -> str | Path:
    """Returns the UNet's file that the option ``weights`` names; addresses on the hub are left to the reader."""
    if str(weights).startswith(_HUB):
        return weights
    path = Path(weights).expanduser()
    if not path.is_dir():
        return path  # the reader says what is wrong with it
    return _network(path) or _network(path / "unet") or _missing(path, f"a UNet ({_NETWORK}{_ENDINGS[0]}), nor has its unet/")


def own_folder(weights: str | Path) -> Path:
    """Lotus's folder, which holds all its networks."""
    folder = Path(weights).expanduser()
    if str(weights).startswith(_HUB) or not folder.is_dir():
        raise WeightsError(
            f"genpercept/lotus: {weights} is no local folder; Lotus is a folder with unet/, vae/, text_encoder/ and "
            "tokenizer/: `hf download ORG/NAME --local-dir FOLDER`, then weights: FOLDER"
        )
    return folder


def head_file(weights: str | Path, head: str | Path | None) -> str | Path:
    """Returns the DPT head's file: what the option ``head`` names, else where GenPercept puts it, in the folder or
    beside it.
    """
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
    """Returns a fine-tuned VAE decoder in the folder ``weights``, both parts or none; None = the base folder's decoder."""
    folder = Path(weights).expanduser()
    if (folder / _HEAD).is_file():
        raise WeightsError(f"genpercept/vae: {folder} holds a DPT head, so no map comes from the VAE: use genpercept/dpt")
    files = DecoderFiles(*(folder / name / "model.safetensors" for name in ("vae_decoder", "vae_post_quant_conv")))
    there = [file for file in files if file.is_file()]
    if len(there) == 1:
        raise WeightsError(f"genpercept/vae: of a fine-tuned decoder's two parts {folder} holds only {there[0]}")
    return files if there else None


def vae_file(base: Path) -> Path:
    """Returns the VAE's weights in the folder of Stable Diffusion."""
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


_ROWS = (2, 77)  # begin and end of text; the same, padded


def empty_prompt(base: Path, embedding: Path | None, rows: int | None) -> Tensor:
    """(1, N, C) float32.

    Rows 0 and 1 of a padded embedding are the unpadded one, since CLIP's text tower is causal, so a file with 77 rows serves
    both.

    Args:
        base: the folder of Stable Diffusion, for its text encoder.
        embedding: a file that holds the embedding, or None.
        rows: N, 2 or 77; None: the file's, and 2 for a computed one.

    Raises:
        WeightsError: no such file, or it holds something else; no text encoder, or no transformers to run it.
    """
    if embedding is None:
        return _computed(base.expanduser(), rows or _ROWS[0])
    found = _from_file(embedding.expanduser())
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[0] != 1 or found.shape[1] not in _ROWS:
        raise WeightsError(f"the embedding in {embedding} must be (2, C) or (77, C), it is {tuple(found.shape)}")
    if rows is not None and found.shape[1] < rows:
        raise WeightsError(f"the embedding in {embedding} has {found.shape[1]} rows, and text_rows asks for {rows}")
    return found[:, :rows].float().contiguous()


def _from_file(file: Path) -> Tensor:
    if file.suffix != ".npy":
        tensors = read_weights(file)
        if len(tensors) != 1:
            raise WeightsError(f"{file} must hold one tensor, the embedding; it holds {len(tensors)}")
        return next(iter(tensors.values()))
    import numpy as np

    try:
        return torch.from_numpy(np.load(file, allow_pickle=False))
    except (OSError, ValueError) as error:
        raise WeightsError(f"cannot read the embedding {file}: {error}") from error


def _computed(base: Path, rows: int) -> Tensor:
    remedy = "give the embedding as a file instead, embedding: PATH"
    missing = [name for name in ("text_encoder", "tokenizer") if not (base / name).is_dir()]
    if missing:
        raise WeightsError(f"genpercept: {base} has no {' and no '.join(missing)} to embed the empty prompt with; {remedy}")
    try:
        from transformers import CLIPTextModel, CLIPTokenizer
    except ImportError as error:
        raise WeightsError(
            f"genpercept: the empty prompt's embedding is computed with transformers, which cannot be imported ({error}); "
            f"`pip install transformers`, or {remedy}"
        ) from error
    try:
        tokenizer = CLIPTokenizer.from_pretrained(base / "tokenizer", local_files_only=True)
        encoder, report = CLIPTextModel.from_pretrained(base / "text_encoder", local_files_only=True, output_loading_info=True)
    except Exception as error:  # a damaged folder raises whatever its reader stumbles over
        raise WeightsError(f"genpercept: cannot read the text encoder in {base}: {error}; {remedy}") from error
    if missing := sorted(report["missing_keys"]):
        raise WeightsError(f"genpercept: the text encoder in {base} lacks {', '.join(missing)}; {remedy}")
    padding = {"padding": "max_length", "max_length": rows} if rows == _ROWS[1] else {"padding": "do_not_pad"}
    tokens = tokenizer("", return_tensors="pt", **padding).input_ids
    with torch.inference_mode():
        embedding: Tensor = encoder.eval()(tokens)[0]
    return embedding.float().clone()
