"""What a configuration may say about a student with an encoder of timm."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator

from dadkit.options import InitOptions, SpaceOptions

__all__ = ["AutoOptions", "StudentOptions"]


class StudentOptions(SpaceOptions, InitOptions):
    """Options of a student whose encoder is named by the component."""

    pretrained: bool | str | Path = False
    """ImageNet weights of the encoder. ``true``: from an installed package or the cache of the Hugging Face Hub, never from the
    network; a path: from this file; ``false`` or ``none``: random weights."""
    decoder: Literal["fusion", "light"] = "fusion"
    """``fusion``: two refinements a level; ``light``: one, and half the channels."""
    channels: Annotated[int, Field(ge=8, multiple_of=8)] = 32
    """Channels of the decoder at strides 2 and 4; coarser levels have up to three times as many."""
    levels: Annotated[int, Field(ge=2, le=5)] | None = None
    """How many of the encoder's maps are used, from the finest; later layers are cut off. null: all."""
    native_size: Annotated[int, Field(ge=32)] = 256
    """Length of the shorter side, in pixels, that ``predict`` aims at, rounded to a multiple of 32."""

    @field_validator("pretrained", mode="after")
    @classmethod
    def _no_encoder_is_a_word(cls, pretrained: bool | str | Path) -> bool | str | Path:
        return False if pretrained == "none" else pretrained


class AutoOptions(StudentOptions):
    """Options of a student with any encoder of timm that has maps of several sizes."""

    encoder: str
    """timm's name, with or without the tag of the weights: ``tf_efficientnet_lite0.in1k``."""
