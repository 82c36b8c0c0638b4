"""What a configuration may say about a starter model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dadkit.options import InitOptions, WeightsOptions

__all__ = ["INCLUDED", "StudentOptions", "TeacherOptions"]

INCLUDED = "included"


class TeacherOptions(WeightsOptions):
    """Options of a starter model as a teacher: none are needed."""

    weights: str | Path | None = INCLUDED
    """``included``: those of the package; or a file of a student that was trained from it; ``none``: random weights."""
    native_size: Annotated[int, Field(ge=32)] = 256
    """Length of the shorter side, in pixels, that ``predict`` aims at, rounded to a multiple of 32."""


class StudentOptions(TeacherOptions, InitOptions):
    """Options of a starter model as a student."""
