"""What a configuration may say about a Depth Anything model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dadkit.options import InitOptions, NeedsWeights

__all__ = ["MetricOptions", "MetricTeacherOptions", "Options", "TeacherOptions"]


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


class TeacherOptions(Options, NeedsWeights):
    """Options of a released model as a teacher."""


class MetricOptions(Options):
    """Options of ``dav2/*-metric``."""

    max_depth: Annotated[float, Field(gt=0)]
    """Metres at which the answers end, in every file's making but in no file: 20 for the indoor models (Hypersim), 80 for the
    outdoor ones (Virtual KITTI)."""


class MetricTeacherOptions(MetricOptions, NeedsWeights):
    """Options of a released metric model as a teacher."""
