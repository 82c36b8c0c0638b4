"""What every part of a configuration is made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ComponentConfig", "Kind", "Section"]


Positive = Annotated[int, Field(ge=1)]
Weight = Annotated[float, Field(ge=0)]
Probability = Annotated[float, Field(ge=0, le=1)]


@dataclass(frozen=True)
class Kind:
    """Marks a field that names components: the kind (``teacher``, ``dataset``, …) under which they are registered.

    Where ``others`` are given, a name that is not registered as ``name`` is looked for among those, in their order.
    """

    name: str
    others: tuple[str, ...] = ()

    @property
    def all(self) -> tuple[str, ...]:
        """Every kind, in the order in which they are asked."""
        return (self.name, *self.others)


class Section(BaseModel):
    """A part of a configuration: unknown keys are errors, values never change after validation."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True)


class ComponentConfig(Section):
    """A component by name, with the options that its own plugin defines and validates."""

    name: str
    """Registered name; `dadkit contexts`, `dadkit datasets`, … list what is installed."""
    options: dict[str, Any] = Field(default_factory=dict)
    """Options of the component; `dadkit config schema NAME` prints what it takes."""
