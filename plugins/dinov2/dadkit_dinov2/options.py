"""What a configuration may say about a DINOv2 encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

__all__ = ["Options", "ReleasedOptions"]


class Options(BaseModel):
    """Options of ``dinov2/*``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    weights: str | Path | None = None
    """Weight file, folder or hf://ORG/NAME[/FILE] of DINOv2 without registers: facebookresearch's, timm's or Hugging Face's
    names. ``none``: random weights."""
    pos_embed: Literal["official", "hf"] = "official"
    """How the position embedding is brought to other sizes than its own: as the official code does, or as transformers does."""

    @field_validator("weights", mode="after")
    @classmethod
    def _none_is_a_word(cls, weights: str | Path | None) -> str | Path | None:
        return None if weights == "none" else weights


class ReleasedOptions(Options):
    """Options of a released size: features of random weights are nothing to follow, so they must be asked for."""

    weights: str | Path | None = Field(
        default="",
        validate_default=True,
        description=(Options.model_fields["weights"].description or "") + " One of the two must be given.",
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _required(cls, weights: Any) -> Any:
        if weights == "":
            raise ValueError("an encoder needs weights: give a file, a folder or hf://ORG/NAME, or `none` for random weights")
        return weights
