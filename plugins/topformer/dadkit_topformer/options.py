"""What a configuration may say about a TopFormer student."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dadkit.options import InitOptions, SpaceOptions

__all__ = ["FixedOptions", "Options"]

Width = Annotated[int, Field(ge=1)]


class FixedOptions(SpaceOptions, InitOptions):
    """Options of ``topformer/poster``, whose architecture is fixed; what every TopFormer student has."""

    weights: str | Path | None = None
    """Weight file to start from: official ImageNet or ADE20K weights (encoder only), or a trained student of the same options.
    ``none``: random weights."""
    init: Literal["all", "encoder", "none"] = "all"
    """What is taken from ``weights``: all that is there; everything but the decoder, which starts from random weights
    (``encoder``); or nothing."""
    drop_path: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Probability that an image skips a part of the last transformer block in training; lower for earlier ones
    (published: 0.1)."""
    native_size: Annotated[int, Field(ge=32)] = 448
    """Shorter side, in pixels, at which ``predict`` runs, rounded to a multiple of 32."""


class Options(FixedOptions):
    """Options of ``topformer/tiny``, ``small`` and ``base``."""

    injection: Literal["all", "official", "none"] = "all"
    """Where the transformer's answer enters the pyramid: in all four levels, as published (strides 8 to 32, wider, slower; the
    injection weights of ADE20K files are used), or in the coarsest level only."""
    widths: Annotated[tuple[Width, Width, Width, Width], Field(strict=False)] | None = None
    """Channels of the decoder at strides 4, 8, 16, 32; the first costs most. null: the size's own."""
