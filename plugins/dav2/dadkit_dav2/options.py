"""What a configuration may say about a Depth Anything model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dadkit.options import CanonicalOptions, InitOptions, NeedsWeights

__all__ = ["MetricOptions", "MetricStudentOptions", "MetricTeacherOptions", "Options", "StudentOptions", "TeacherOptions"]


class Options(InitOptions):
    """Options of ``dav2/*``."""

    weights: str | Path | None = None
    """Weight file (.pth, .safetensors), folder with model.safetensors, or hf://ORG/NAME[/FILE]: Depth Anything V1 or V2,
    Distill Any Depth, or their Hugging Face versions. ``none``: random weights."""
    init: Literal["all", "encoder", "dinov2", "none"] = "all"  # type: ignore[assignment]  # one more than others have
    """What is taken from ``weights``: everything; the encoder alone (the head starts from random weights); the encoder from a
    file of DINOv2, with which Depth Anything itself began (``dinov2``); or nothing."""
    version: Literal["v1", "v2"] = "v2"
    """Which blocks feed the head. Files of V1 and V2 look alike, so this must be said: Distill Any Depth is v2."""
    pos_embed: Literal["official", "hf"] = "official"
    """How the position embedding is brought to other sizes than its own: as the official code does, or as transformers does."""
    native_size: Annotated[int, Field(ge=14)] | None = None
    """Shorter side, in pixels, at which ``predict`` runs, rounded to a multiple of 14; null: 518, and 126 for tiny."""


class StudentOptions(Options):
    """Options of a relative model as a student."""

    space: Literal["disparity", "scale", "depth"] = "disparity"
    """What the numbers of the answers mean: disparity, never negative, as published; depth up to one factor; or affine depth,
    unbounded. Metres are ``dav2/*-metric``'s."""


class TeacherOptions(Options, NeedsWeights):
    """Options of a released model as a teacher."""


class MetricOptions(Options):
    """Options of ``dav2/*-metric``."""

    max_depth: Annotated[float, Field(gt=0)]
    """Metres at which the answers end, in every file's making but in no file: 20 for the indoor models (Hypersim), 80 for the
    outdoor ones (Virtual KITTI)."""


class MetricStudentOptions(MetricOptions, CanonicalOptions):
    """Options of a metric model as a student. With ``canonical_focal``, ``max_depth`` bounds what the network answers."""


class MetricTeacherOptions(MetricOptions, NeedsWeights):
    """Options of a released metric model as a teacher."""
