"""What a configuration may say about a DINOv2 encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dadkit.options import NeedsWeights, WeightsOptions

__all__ = ["Options", "ReleasedOptions"]


class Options(WeightsOptions):
    """Options of ``dinov2/*``."""

    weights: str | Path | None = None
    """Weight file, folder or hf://ORG/NAME[/FILE] of DINOv2 without registers: facebookresearch's, timm's or Hugging Face's
    names. ``none``: random weights."""
    pos_embed: Literal["official", "hf"] = "official"
    """How the position embedding is brought to other sizes than its own: as the official code does, or as transformers does."""


class ReleasedOptions(Options, NeedsWeights):
    """Options of a released size: features of random weights are nothing to follow, so they must be asked for."""

    weights_needed = "an encoder needs weights: give a file, a folder or hf://ORG/NAME, or `none` for random weights"
