"""The text embedding of the empty prompt, which the UNet is conditioned on: from a file, or computed once."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from dadkit.weights import WeightsError, read_weights

__all__ = ["empty_prompt"]

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
