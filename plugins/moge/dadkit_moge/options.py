"""What a configuration may say about a MoGe model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dadkit.options import NeedsWeights, WeightsOptions

__all__ = ["Options", "TeacherOptions"]


class Options(WeightsOptions):
    """Options of ``moge/*``."""

    weights: str | Path | None = None
    """The official model.pt, with or without normals, or hf://ORG/NAME/model.pt. ``none``: random weights."""
    tokens: Annotated[int, Field(ge=1)] | None = None
    """How many patches of 14 x 14 pixels ``predict`` cuts an image into, about; null: the most that the model was trained
    with."""
    fov: Annotated[float, Field(gt=0, lt=180)] | None = None
    """Horizontal field of view, in degrees, to assume of pictures whose camera is unknown; null: the model finds the focal
    length itself."""


class TeacherOptions(Options, NeedsWeights):
    """Options of a released model."""
