"""What a configuration may say about TCSmallNet."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from dadkit.options import InitOptions, NeedsWeights, WeightsOptions

__all__ = ["StudentOptions", "TeacherOptions"]


class _Size(WeightsOptions):
    native_size: Annotated[int, Field(ge=32)] = 256
    """Length of the shorter side, in pixels, that ``predict`` aims at, rounded to a multiple of 32."""


class TeacherOptions(_Size, NeedsWeights):
    """Options of the released network as a teacher."""


class StudentOptions(_Size, InitOptions):
    """Options of a student."""
