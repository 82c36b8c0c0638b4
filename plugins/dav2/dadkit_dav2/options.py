"""What a configuration may say about a Depth Anything model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["MetricOptions", "MetricTeacherOptions", "Options", "TeacherOptions"]


class Options(BaseModel):
    """Options of ``dav2/*``."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    weights: str | Path | None = None
    """Weight file (.pth, .safetensors), folder with model.safetensors, or hf://ORG/NAME[/FILE]: Depth Anything V1 or V2,
    Distill Any Depth, or their Hugging Face versions. ``none``: random weights."""
    init: Literal["all", "encoder", "dinov2", "none"] = "all"
    """What is taken from ``weights``: everything; the encoder alone (the head starts from random weights); the encoder from a
    file of DINOv2, with which Depth Anything itself began (``dinov2``); or nothing."""
    version: Literal["v1", "v2"] = "v2"
    """Which blocks feed the head. Files of V1 and V2 look alike, so this must be said: Distill Any Depth is v2."""
    pos_embed: Literal["official", "hf"] = "official"
    """How the position embedding is brought to other sizes than its own: as the official code does, or as transformers does."""
    native_size: Annotated[int, Field(ge=14)] | None = None
    """Shorter side, in pixels, at which ``predict`` runs, rounded to a multiple of 14; null: 518, and 126 for tiny."""

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
    """Options of a released model as a teacher: random weights have nothing to teach, so they must be asked for."""

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


class MetricOptions(Options):
    """Options of ``dav2/*-metric``."""

    max_depth: Annotated[float, Field(gt=0)]
    """Metres at which the answers end, in every file's making but in no file: 20 for the indoor models (Hypersim), 80 for the
    outdoor ones (Virtual KITTI)."""


class MetricTeacherOptions(TeacherOptions, MetricOptions):
    """Options of a released metric model as a teacher."""
