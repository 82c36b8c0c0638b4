"""The sections that name models: students, teachers, references."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, model_validator

from dadkit.config.section import Section

__all__ = ["ReferenceConfig", "StudentConfig", "TeacherCacheConfig", "TeacherConfig"]


class StudentConfig(Section):
    """The model that a stage trains: a registered student, or the result of an earlier stage."""

    name: str | None = None
    """Registered student, for instance ``topformer/tiny``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the student."""
    stage: str | None = None
    """Go on training the result of this earlier stage instead."""

    @model_validator(mode="after")
    def _one_source(self) -> StudentConfig:
        _check_source(self, "student")
        return self


class TeacherConfig(Section):
    """A frozen model that labels: a registered teacher, or the result of an earlier stage."""

    name: str | None = None
    """Registered teacher, for instance ``dav2/large``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the teacher."""
    stage: str | None = None
    """Use the result of this earlier stage instead."""
    probability: Annotated[float, Field(gt=0)] = 1.0
    """Relative probability of being drawn for an iteration; an assistant has a smaller one (7:3 in Distill Any Depth)."""

    @model_validator(mode="after")
    def _one_source(self) -> TeacherConfig:
        _check_source(self, "teacher")
        return self


class TeacherCacheConfig(Section):
    """Where the teachers' answers are kept."""

    folder: str = "teacher-cache"
    """A folder for one file per answer (4 bytes a pixel); runs may share it."""
    max_gb: Annotated[float, Field(gt=0)] = 50.0
    """Gigabytes after which no more is written."""


class ReferenceConfig(Section):
    """A frozen model whose features are followed: a registered encoder or teacher, or the result of an earlier stage."""

    name: str | None = None
    """Registered encoder or teacher, for instance ``dinov2/small``."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the encoder or teacher."""
    stage: str | None = None
    """Use the result of this earlier stage instead."""

    @model_validator(mode="after")
    def _one_source(self) -> ReferenceConfig:
        _check_source(self, "reference")
        return self


def _check_source(section: StudentConfig | TeacherConfig | ReferenceConfig, role: str) -> None:
    if (section.name is None) == (section.stage is None):
        raise ValueError(f"a {role} is either a registered component (name: …) or an earlier stage's result (stage: …)")
    if section.stage is not None and section.options:
        raise ValueError(f"options belong to a {role} with a name, not to one taken from stage '{section.stage}'")
