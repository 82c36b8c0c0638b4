"""What a configuration may say about a LeReS model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["Options", "TeacherOptions"]


class Options(BaseModel):
    """Options of ``leres/*``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    weights: str | Path | None = None
    """Weight file: an official LeReS checkpoint, an ImageNet file of torchvision or timm (encoder only, with ``init:
    encoder``), or a trained student. ``none``: random weights."""
    init: Literal["all", "encoder", "none"] = "all"
    """What is taken from ``weights``: everything, the encoder alone (the decoder starts from random weights), or nothing."""
    native_size: Annotated[int, Field(ge=32)] = 448
    """Side, in pixels, of the square to which ``predict`` resizes an image (its aspect ratio is ignored, as officially),
    rounded to a multiple of 32."""

    @field_validator("weights", mode="after")
    @classmethod
    def _none_is_a_word(cls, weights: str | Path | None) -> str | Path | None:
        return None if weights == "none" else weights

    @model_validator(mode="after")
    def _init_needs_weights(self) -> Options:
        if self.weights is None and self.init != "none" and "init" in self.model_fields_set:
            raise ValueError(f"init: {self.init} takes it from a file, so it needs weights: PATH")
        if self.weights is not None and self.init == "none":
            raise ValueError("init: none takes nothing from the weights given; leave out one of the two")
        return self


class TeacherOptions(Options):
    """Options of a LeReS teacher: random weights have nothing to teach, so they must be asked for."""

    weights: str | Path | None = Field(
        default="",
        validate_default=True,
        description=(Options.model_fields["weights"].description or "") + " A teacher must be given one of the two.",
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _required(cls, weights: Any) -> Any:
        if weights == "":
            raise ValueError("a teacher needs weights: give the path of a checkpoint, or `none` for random weights")
        return weights
