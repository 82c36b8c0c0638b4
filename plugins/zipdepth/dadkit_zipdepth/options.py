"""What a configuration may say about a ZipDepth model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dadkit.options import InitOptions, NeedsWeights, SpaceOptions, WeightsOptions

__all__ = ["Options", "TeacherOptions"]


class _Model(WeightsOptions):
    weights: str | Path | None = None
    """Weight file: an official checkpoint (zipdepth_base.pth, zipdepth_base_npu.pth, or one of the official training code), or
    a trained student. ``none``: random weights."""
    upsampling: Literal["convex", "blend"] = "convex"
    """How the map at half resolution becomes a whole one: a learned convex combination of nine neighbours
    (zipdepth_base.pth), or a learned blend of nearest and bilinear interpolation, without unfold
    (zipdepth_base_npu.pth)."""
    native_size: Annotated[int, Field(ge=32)] = 384
    """Shorter side, in pixels, at which ``predict`` runs, rounded to a multiple of 32."""


class Options(_Model, SpaceOptions, InitOptions):
    """Options of a ZipDepth student."""

    init: Literal["all", "encoder", "none"] = "all"
    """What is taken from ``weights``: everything; the encoder alone (the decoder starts from random weights); or nothing."""


class TeacherOptions(_Model, NeedsWeights):
    """Options of a ZipDepth teacher."""
