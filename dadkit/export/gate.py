"""Whether a file of lower precision still does what the model does: one verdict, from pictures that it was not made with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from dadkit.interfaces import DepthModel
from dadkit.interfaces.exporter import as_input

if TYPE_CHECKING:
    import numpy as np

__all__ = ["MAX_ABS_REL", "MAX_WORST", "MIN_DELTA1", "Verdict", "judge"]

MAX_ABS_REL, MIN_DELTA1, MAX_WORST = 0.03, 0.99, 0.06
"""A file passes with at most this mean AbsRel to the model's own maps, at least this delta1, and no image above the last."""


@dataclass(frozen=True)
class Verdict:
    """How far a file of lower precision is from the model.

    The file's map is fitted to the model's by scale and shift (a model in metres: not at all), both are read as inverse depths
    that span 1 to 10, and compared as an evaluation does.

    Attributes:
        variant: what was kept in float, and how.
        abs_rel: mean over the pictures.
        delta1: mean over the pictures.
        worst: largest AbsRel of a picture.
        megabytes: size of the file.
        pictures: how many.
    """

    variant: str
    abs_rel: float
    delta1: float
    worst: float
    megabytes: float
    pictures: int

    @property
    def passes(self) -> bool:
        """True if the file may get its name."""
        return self.abs_rel <= MAX_ABS_REL and self.delta1 >= MIN_DELTA1 and self.worst <= MAX_WORST


def judge(
    model: DepthModel,
    run: Callable[[np.ndarray], np.ndarray],
    images: Sequence[Tensor],
    *,
    input: Literal["float", "uint8"] = "float",
    **row: Any,
) -> Verdict:
    """Compare file and model on ``images``, (1, 3, h, w) uint8 each; ``row`` is the rest of the verdict."""
    errors, shares = [], []
    for image in images:
        with torch.inference_mode():
            wanted = model(image.float() / 255).depth.double()
        found = torch.from_numpy(run(as_input(image.float() / 255, input))).double()
        if model.spec.space != "metric":
            found = fitted(found, wanted)
        low, high = (wanted.flatten().quantile(torch.tensor(q, dtype=torch.float64)) for q in (0.01, 0.99))
        one, other = (0.1 + 0.9 * ((x - low) / (high - low).clamp(min=1e-12)).clamp(0, 1) for x in (wanted, found))
        ratio = one / other  # of depths, which are the inverses
        errors.append(float((ratio - 1).abs().mean()))
        shares.append(float((torch.maximum(ratio, 1 / ratio) < 1.25).double().mean()))
    return Verdict(abs_rel=_mean(errors), delta1=_mean(shares), worst=max(errors), pictures=len(images), **row)


def fitted(found: Tensor, wanted: Tensor) -> Tensor:
    """``found`` with the scale and the shift that bring it nearest to ``wanted`` in the least-squares sense."""
    x, y = found - found.mean(), wanted - wanted.mean()
    return x * ((x * y).sum() / (x * x).sum().clamp(min=1e-24)) + wanted.mean()


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
