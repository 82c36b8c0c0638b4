"""What a configuration may say about a LeReS model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dadkit.options import InitOptions, NeedsWeights

__all__ = ["Options", "TeacherOptions"]


class Options(InitOptions):
    """Options of ``leres/*``."""

    weights: str | Path | None = None
    """Weight file: an official LeReS checkpoint, an ImageNet file of torchvision or timm (encoder only, with ``init:
    encoder``), or a trained student. ``none``: random weights."""
    native_size: Annotated[int, Field(ge=32)] = 448
    """Side, in pixels, of the square to which ``predict`` resizes an image (its aspect ratio is ignored, as officially),
    rounded to a multiple of 32."""


class TeacherOptions(Options, NeedsWeights):
    """Options of a LeReS teacher."""
