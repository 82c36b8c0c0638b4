"""What a configuration may say about a TopFormer student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["FixedOptions", "Options"]

Width = Annotated[int, Field(ge=1)]


class FixedOptions(BaseModel):
    """Options of ``topformer/poster``, whose architecture is fixed; what every TopFormer student has."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    weights: str | Path | None = None
    """Weight file to start from: official ImageNet or ADE20K weights (encoder only), or a trained student of the same options.
    ``none``: random weights."""
    space: Literal["disparity", "depth"] = "disparity"
    """What the answers mean. Disparity is never negative; affine depth is unbounded."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that an image skips a part of the last transformer block in training; lower for earlier ones
    (published: 0.1)."""
    native_size: Annotated[int, Field(ge=32)] = 448
    """Shorter side, in pixels, at which ``predict`` runs, rounded to a multiple of 32."""

    @field_validator("weights", mode="after")
    @classmethod
    def _none_is_a_word(cls, weights: str | Path | None) -> str | Path | None:
        return None if weights == "none" else weights


class Options(FixedOptions):
    """Options of ``topformer/tiny``, ``small`` and ``base``."""

    injection: Literal["all", "official", "none"] = "all"
    """Where the transformer's answer enters the pyramid: in all four levels, as published (strides 8 to 32, wider, slower; the
    injection weights of ADE20K files are used), or in the coarsest level only."""
    widths: Annotated[tuple[Width, Width, Width, Width], Field(strict=False)] | None = None
    """Channels of the decoder at strides 4, 8, 16, 32; the first costs most. null: the size's own."""
