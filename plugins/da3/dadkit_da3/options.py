"""What a configuration may say about a Depth Anything 3 model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from dadkit.options import InitOptions, NeedsWeights, WeightsOptions

__all__ = ["MetricTeacherOptions", "Options", "StudentOptions", "TeacherOptions"]


class Options(WeightsOptions):
    """Options of ``da3/*``."""

    weights: str | Path | None = None
    """Folder with model.safetensors and config.json, a file, or hf://ORG/NAME[/FILE]: the official release, a mirror of it,
    or a trained student. ``none``: random weights."""
    native_size: Annotated[int, Field(ge=14)] | None = None
    """Longer side, in pixels, at which ``predict`` runs; null: 504, and 126 for tiny."""


class TeacherOptions(Options, NeedsWeights):
    """Options of a released model as a teacher."""


class MetricTeacherOptions(TeacherOptions):
    """Options of ``da3/metric-large``."""

    space: Literal["metric", "scale"] = "metric"
    """What the answers mean: metres, for which the camera of each picture must be known, or depth up to one factor, which is as
    exact and needs none: enough for a student of disparity."""
    fov: Annotated[float, Field(gt=0, lt=180)] | None = None
    """Horizontal field of view, in degrees, to assume of pictures whose camera is unknown; null: those have no metres."""


class StudentOptions(Options, InitOptions):
    """Options of a student."""

    init: Literal["all", "encoder", "none"] = "all"
    """What is taken from ``weights``: everything; the encoder alone (the head starts from random weights); or nothing."""
