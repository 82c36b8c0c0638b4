"""What a configuration may say about a Prior Depth Anything completer."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from dadkit.options import NeedsWeights, WeightsOptions

__all__ = ["Options", "ReleasedOptions"]


class Options(WeightsOptions):
    """Options of ``priorda/*``."""

    weights: str | Path | None = None
    """The released prior_depth_anything_vits_1_1.pth or prior_depth_anything_vitb_1_1.pth, or hf://ORG/NAME/FILE. ``none``:
    random weights."""
    native_size: Annotated[int, Field(ge=14)] | None = None
    """Shorter side, in pixels, at which the network runs, rounded to a multiple of 14; null: 518, and 126 for tiny."""


class ReleasedOptions(Options, NeedsWeights):
    """Options of a released size."""
