"""The bases of a component's own options: what the ``config`` of a registration derives from.

They import pydantic and nothing else, so that options can be checked and described without torch. A model of options is named
when its component is registered, ``config="dadkit_acme.options:Options"``; without one, the target's signature says what it
takes.

    class Options(WeightsOptions):
        native_size: Annotated[int, Field(ge=32)] = 448
        \"\"\"Side, in pixels, of the square to which ``predict`` resizes an image.\"\"\"

    class TeacherOptions(Options, NeedsWeights):
        \"\"\"Options of a released model as a teacher.\"\"\"
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

__all__ = ["CanonicalOptions", "InitOptions", "NeedsWeights", "Options", "SpaceOptions", "WeightsOptions"]


class Options(BaseModel):
    """Options of a component: unknown names are refused, no value is guessed, and the docstring below a field describes it."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class WeightsOptions(Options):
    """Options of a model that may start from a file. In Python, ``weights`` is None where a configuration says ``none``."""

    weights: str | Path | None = None
    """Weight file (.pth, .safetensors), folder with model.safetensors, or hf://ORG/NAME[/FILE]. ``none``: random weights."""

    @field_validator("weights", mode="after")
    @classmethod
    def _none_is_a_word(cls, weights: str | Path | None) -> str | Path | None:
        return None if weights == "none" else weights


class InitOptions(WeightsOptions):
    """Options of a student that may take a part of a file only. A subclass may offer other parts; ``none`` must stay."""

    init: Literal["all", "encoder", "none"] = "all"
    """What is taken from ``weights``: everything; the encoder alone (the rest starts from random weights); or nothing."""

    @model_validator(mode="after")
    def _init_needs_weights(self) -> InitOptions:
        if self.weights is None and self.init != "none" and "init" in self.model_fields_set:
            advice = "random weights are init: none"
            raise ValueError(f"init: {self.init} takes it from a file, so it needs weights: PATH; {advice}")
        if self.weights is not None and self.init == "none":
            raise ValueError("init: none takes nothing from the weights given; leave out one of the two")
        return self


class CanonicalOptions(Options):
    """Options of a student that learns metres for any camera, by the canonical camera transform.

    Source: Yin et al., Metric3D: Towards Zero-shot Metric 3D Prediction from A Single Image (ICCV 2023).
    """

    canonical_focal: Annotated[float, Field(gt=0)] | None = None
    """In space ``metric``: the network answers as if every picture had this focal length, in pixels of its own input, and the
    picture's own focal length turns that into metres. Pictures of several cameras then train one student, and it needs cameras
    to answer. null: it learns metres for cameras like those that it is trained with."""
    fov: Annotated[float, Field(gt=0, lt=180)] | None = None
    """With ``canonical_focal``: horizontal field of view, in degrees, to assume for pictures whose camera is unknown. null:
    they have no metres."""

    @model_validator(mode="after")
    def _only_metres_need_cameras(self) -> CanonicalOptions:
        space = getattr(self, "space", "metric")
        if self.canonical_focal is not None and space != "metric":
            raise ValueError(f"canonical_focal turns answers into metres, so it needs space: metric, not {space}")
        if self.fov is not None and self.canonical_focal is None:
            raise ValueError("fov is assumed where a camera is needed, so it needs canonical_focal")
        return self


class SpaceOptions(CanonicalOptions):
    """Options of a student that learns to answer in any space."""

    space: Literal["disparity", "scale", "depth", "metric"] = "disparity"
    """What the numbers of the answers mean: disparity, never negative; depth up to one factor; affine depth; or metres."""


def _say_that_weights_are_required(schema: dict[str, Any]) -> None:
    schema["properties"]["weights"].pop("default", None)
    schema["required"] = ["weights", *(name for name in schema.get("required", []) if name != "weights")]


class NeedsWeights(Options):
    """A second base beside :class:`WeightsOptions`: weights must be given, since random ones have nothing to teach.

    ``weights: none`` asks for random ones all the same.
    """

    model_config = ConfigDict(json_schema_extra=_say_that_weights_are_required)

    weights_needed: ClassVar[str] = "a teacher needs weights: give the path of a checkpoint, or `none` for random weights"
    """The message where none is given."""

    @model_validator(mode="before")
    @classmethod
    def _see_that_they_lack(cls, options: Any) -> Any:
        # A default would not be validated, and an error of the whole model would not be located at the key.
        return {"weights": "", **options} if isinstance(options, dict) else options

    @field_validator("weights", mode="before", check_fields=False)
    @classmethod
    def _must_be_given(cls, weights: Any) -> Any:
        if weights == "":
            raise ValueError(cls.weights_needed)
        return weights
