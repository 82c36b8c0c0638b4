"""What a configuration may say about a MiDaS model."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from dadkit_midas.sizes import STRIDE

__all__ = ["FixedTeacherOptions", "StudentOptions", "TeacherOptions", "TinyTeacherOptions"]


class _Weights(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    weights: str | Path | None = None
    """Weight file (.pt, .pth, .safetensors), folder with model.safetensors, or hf://ORG/NAME[/FILE]: the official file, the
    Hugging Face version of the same model, or a trained student. ``none``: random weights."""

    @field_validator("weights", mode="after")
    @classmethod
    def _none_is_a_word(cls, weights: str | Path | None) -> str | Path | None:
        return None if weights == "none" else weights


class _NativeSize(BaseModel):
    model_config = ConfigDict(use_attribute_docstrings=True)

    native_size: Annotated[int, Field(ge=STRIDE)] | None = None
    """Side, in pixels, that ``predict`` aims at, rounded to a multiple of 32; null: the one that the model was trained at."""


class StudentOptions(_NativeSize, _Weights):
    """Options of a student."""

    init: Literal["all", "encoder", "none"] = "all"
    """What is taken from ``weights``: everything; the backbone alone (the decoder starts from random weights), for which a file
    of the backbone with timm's names will do as well (ImageNet weights, say); or nothing."""

    @model_validator(mode="after")
    def _init_needs_weights(self) -> StudentOptions:
        if self.weights is None and self.init != "none" and "init" in self.model_fields_set:
            raise ValueError(f"init: {self.init} takes it from a file, so it needs weights: PATH")
        if self.weights is not None and self.init == "none":
            raise ValueError("init: none takes nothing from the weights given; leave out one of the two")
        return self


class TinyTeacherOptions(_NativeSize, _Weights):
    """Options of the tiny models as teachers: they have no released weights, so random ones are the default."""


class FixedTeacherOptions(_Weights):
    """Options of a released teacher that takes one size only. Random weights have nothing to teach: they must be asked for."""

    weights: str | Path | None = Field(
        default="",
        validate_default=True,
        description=(_Weights.model_fields["weights"].description or "") + " A teacher must be given one of the two.",
    )

    @field_validator("weights", mode="before")
    @classmethod
    def _required(cls, weights: Any) -> Any:
        if weights == "":
            raise ValueError("a teacher needs weights: give the path of a checkpoint, or `none` for random weights")
        return weights


class TeacherOptions(_NativeSize, FixedTeacherOptions):
    """Options of a released teacher."""
