"""What a configuration may say about a GenPercept or Lotus teacher."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from dadkit.options import NeedsWeights, Options, WeightsOptions

__all__ = ["DPTOptions", "LotusOptions", "TinyOptions", "VAEOptions"]


class _Common(Options):
    space: Literal["depth", "disparity"]
    """What the checkpoint's answers mean: affine-invariant depth (1 = far) or disparity (1 = near). Nothing in the file says
    it, only its name: ``unet_depth_v2`` or ``unet_disparity_v2``."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Number format of weights and features. bf16 halves memory; fp16 is not offered, the VAE overflows in it."""
    memory: Literal["fast", "sequential", "tiled"] = "fast"
    """``sequential``: one image of a batch after the other, the same answer with less memory; ``tiled``: that, and the VAE sees
    images larger than its training size in overlapping tiles, which moves the answer a little."""


class _Released(_Common, WeightsOptions, NeedsWeights):
    weights_needed = "a teacher needs weights: give GenPercept's UNet, or `none` for random weights"

    weights: str | Path | None = None
    """GenPercept's UNet: a file, or a folder that holds ``diffusion_pytorch_model.safetensors`` (or .bin) or ``unet/`` with it.
    ``none``: random weights."""
    base: Path | None = None
    """Folder of Stable Diffusion 2.1 in diffusers' layout: ``vae/`` and ``unet/config.json`` are used, and, without
    ``embedding``, ``text_encoder/`` and ``tokenizer/``. Needed with ``weights``; ``none`` is for random ones."""
    embedding: Path | None = None
    """File (.npy or .safetensors) with the text embedding of the empty prompt, (2, C) or (77, C). null: it is computed from
    ``base``, for which transformers must be installed."""
    text_rows: Literal[2, 77] | None = None
    """Rows of the embedding that the UNet sees: 2 (begin and end of text) as GenPercept's second version, 77 (padded) as its
    first. null: as the embedding's file has them, and 2 for a computed one."""
    native_size: Annotated[int, Field(ge=0)] = 768
    """Longer side, in pixels, at which ``predict`` runs (smaller images are enlarged), rounded to a multiple of 64; 0: the
    image's own size, as in the paper's tables."""

    @field_validator("base", mode="before")
    @classmethod
    def _no_base(cls, base: Any) -> Any:
        return None if base == "none" else base

    @model_validator(mode="after")
    def _weights_need_a_base(self) -> _Released:
        if self.weights is not None and self.base is None:
            raise ValueError("weights hold GenPercept's UNet only; base must name the Stable Diffusion 2.1 folder it stands on")
        return self


class VAEOptions(_Released):
    """Options of ``genpercept/vae``."""


class DPTOptions(_Released):
    """Options of ``genpercept/dpt``."""

    head: str | Path | None = None
    """File of the DPT head. null: ``dpt_head_identity/model.safetensors`` in the folder ``weights``, or beside it."""

    @model_validator(mode="after")
    def _head_needs_weights(self) -> DPTOptions:
        if self.head is not None and self.weights is None:
            raise ValueError("head: a head belongs to the UNet it was trained with, so it needs weights: PATH")
        return self


class LotusOptions(_Common, WeightsOptions, NeedsWeights):
    """Options of ``genpercept/lotus``."""

    weights_needed = "a teacher needs weights: give the folder of a Lotus-D model, or `none` for random weights"

    weights: str | Path | None = None
    """Local folder of a Lotus-D model in diffusers' layout, ``lotus-depth-d-v2-0-disparity`` for instance: ``unet/``, ``vae/``
    and, without ``embedding``, ``text_encoder/`` and ``tokenizer/``. ``none``: random weights."""
    embedding: Path | None = None
    """File (.npy or .safetensors) with the text embedding of the empty prompt, (2, C) or (77, C), of which two rows are used.
    null: it is computed, for which transformers must be installed."""
    native_size: Annotated[int, Field(ge=0)] = 768
    """Longer side, in pixels, at which ``predict`` runs (smaller images are enlarged), rounded to a multiple of 64; 0: the
    image's own size."""


class TinyOptions(_Common):
    """Options of ``genpercept/tiny``."""

    variant: Literal["vae", "dpt", "lotus"] = "vae"
    """Where the map comes from: the VAE's decoder, a DPT head, or Lotus's way."""
    native_size: Annotated[int, Field(ge=0)] = 128
    """Longer side, in pixels, at which ``predict`` runs, rounded to a multiple of 64; 0: the image's own size."""
