"""What a configuration may say about a model of transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from dadkit.options import NeedsWeights

__all__ = ["Options"]


class Options(NeedsWeights):
    """Options of ``hf/auto``."""

    weights_needed = "they say which model this is, too: give a local folder or hf://ORG/NAME"

    weights: str | Path
    """The model: a local folder with ``config.json`` and ``preprocessor_config.json``, or
    ``hf://ORG/NAME[@REVISION][/SUBFOLDER]`` (also plain ``ORG/NAME``) on the Hugging Face hub."""
    space: Literal["disparity", "depth", "metric"] | None = None
    """What the answers mean. null: what the family fixes (Depth Anything and MiDaS's DPT: disparity; ZoeDepth, GLPN, Depth Pro,
    Depth Anything metric: metric). Must be given for all others."""
    license: str | None = None
    """Licence of the weights, SPDX or text. null: what the model's card says, else unknown."""
    size_multiple: Annotated[int, Field(ge=1)] | None = None
    """Heights and widths that the network takes are multiples of this. null: what family or processor say."""

    @field_validator("weights", mode="before")
    @classmethod
    def _none_is_no_model(cls, weights: Any) -> Any:
        if weights in ("none", None):
            raise ValueError(cls.weights_needed)
        return weights
