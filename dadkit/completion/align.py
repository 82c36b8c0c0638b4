"""Built-in completers. `align`: completion in closed form, over the map of any depth model."""

from __future__ import annotations

from dataclasses import replace
from typing import get_args

from torch import Tensor

from dadkit.alignment import Keep, Local, align_to_points
from dadkit.interfaces import Completer, CompleterSpec, Hints, Prediction
from dadkit.spaces import Space

__all__ = ["Align"]


class Align(Completer):
    """One global fit in the model's own space, then the residuals spread between the points. Nothing is learned.

    Args:
        local: how residuals are spread: ``fill``, ``poisson``, ``knn``, ``kriging`` or ``none``; see
            :func:`dadkit.alignment.align_to_points`.
        keep: ``soft`` smooths the points, ``exact`` keeps them as they are.
        max_depth: farthest depth in metres; None = as :func:`dadkit.alignment.align_to_points` says.
    """

    def __init__(self, local: Local = "fill", keep: Keep = "soft", max_depth: float | None = None) -> None:
        super().__init__()
        for key, value, known in (("local", local, get_args(Local)), ("keep", keep, get_args(Keep))):
            if value not in known:
                raise ValueError(f"{key} must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
        if max_depth is not None and not max_depth > 0:
            raise ValueError(f"max_depth must be above 0 metres, got {max_depth}")
        self.spec = CompleterSpec(name="align")
        self.local: Local = local
        self.keep: Keep = keep
        self.max_depth = max_depth

    def complete(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """See :meth:`dadkit.interfaces.Completer.complete`. ``images`` and ``intrinsics`` are not looked at."""
        if relative is None:
            raise ValueError("align needs the map of a depth model (relative=…)")
        fit = align_to_points(
            relative.depth,
            relative.space,
            hints.depth,
            hints.valid,
            sigma=hints.sigma,
            local=self.local,
            keep=self.keep,
            max_depth=self.max_depth,
        )
        features = {"support": fit.support, "used": fit.used}
        return replace(relative, depth=fit.depth, space=Space.METRIC, features=features)
