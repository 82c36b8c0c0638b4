"""What a model costs: its parameters and multiply-adds, counted on tensors without memory, so that any size takes a second."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Literal, get_args, get_origin

from dadkit.errors import DadkitError

if TYPE_CHECKING:
    from dadkit.interfaces import DepthModel
    from dadkit.plugin import Component

__all__ = ["Cost", "measure", "short"]

_USUAL = 448  # pixels; for models that take an image at its own size, and so have none


@dataclass(frozen=True)
class Cost:
    """The cost of one model, or why it could not be measured.

    Attributes:
        parameters: how many numbers it holds, frozen ones included.
        multiply_adds: of one image in one forward pass, as counted by ``torch.utils.flop_counter`` (convolutions, matrix
            products, attention; half of its floating-point operations).
        size: (height, width) of that image.
        error: why the others are None.
    """

    parameters: int | None = None
    multiply_adds: int | None = None
    size: tuple[int, int] | None = None
    error: str = ""


def measure(component: Component, side: int | None = None) -> Cost:
    """Build a teacher or student with random weights on the meta device, and count.

    Args:
        component: the registered model.
        side: of the square image that it sees, in pixels (the nearest legal multiple is taken); None: its native size.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with torch.device("meta"), torch.no_grad():
            model = _build(component).eval()
            height, width = _size(model, side)
            images = torch.zeros(1, 3, height, width)
            with FlopCounterMode(display=False) as counter:
                model(images)
    except Exception as error:  # whatever one plugin's code raises belongs into its own row
        return Cost(error=_reason(error))
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return Cost(parameters, counter.get_total_flops() // 2, (height, width))


def short(count: int | None) -> str:
    """``24.8 M`` for 24785088: three digits and a thousand's power; empty for None."""
    if count is None:
        return ""
    value, unit = float(count), ""
    for larger in ("k", "M", "G", "T"):
        if value < 999.5:
            break
        value, unit = value / 1000, larger
    digits = f"{value:#.3g}".rstrip(".") if unit else str(count)
    return f"{digits} {unit}".rstrip()


def _build(component: Component) -> DepthModel:
    from dadkit.loading import load_student, load_teacher

    load = load_student if component.kind == "student" else load_teacher
    return load(component.name, **_least_options(component))


def _least_options(component: Component) -> dict[str, Any]:
    """What a model needs to be built without a file: no weights, and some value where one must be given (space, max_depth)."""
    from dadkit.config.components import options_model

    fields = options_model(component).model_fields
    options: dict[str, Any] = {"weights": "none"} if "weights" in fields else {}
    required = {name: _some(field.annotation) for name, field in fields.items() if field.is_required() and name not in options}
    return options | {name: value for name, value in required.items() if value is not None}


def _some(annotation: Any) -> Any:
    """Returns a value of a choice or a number; None for anything else, which the model then asks for."""
    if get_origin(annotation) is Literal:
        return get_args(annotation)[0]
    if isinstance(annotation, type) and issubclass(annotation, Enum):
        return next(iter(annotation)).value
    return 1 if annotation in (int, float) else None


def _size(model: DepthModel, side: int | None) -> tuple[int, int]:
    from dadkit.interfaces import nearest_multiple

    if side is None:
        side = model.spec.native.size or _USUAL
        return model.spec.native.target(side, side)
    legal = nearest_multiple(side, model.spec.size_multiple)
    return legal, legal


def _reason(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = " ".join(lines) if isinstance(error, DadkitError) else (lines or [""])[0]
    return text if isinstance(error, DadkitError) else f"{type(error).__name__}: {text}"
