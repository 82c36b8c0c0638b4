"""Built-in completers. `align`: completion in closed form, over the map of any depth model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, get_args

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.alignment import Keep, Local, SparseFit, align_to_points
from dadkit.interfaces import Completer, CompleterSpec, Hints, Prediction, resize
from dadkit.loading import load_model
from dadkit.spaces import Space

__all__ = ["Align"]

LEAST_VARIANCE = 1e-4
"""Variance of a logarithm of depth below which no fit counts: an error of one per cent."""


class Align(Completer):
    """One global fit in the model's own space, then the residuals spread between the points. Nothing is learned.

    Args:
        local: how residuals are spread: ``fill``, ``poisson``, ``knn``, ``kriging`` or ``none``; see
            :func:`dadkit.alignment.align_to_points`.
        keep: ``soft`` smooths the points, ``exact`` keeps them as they are.
        max_depth: farthest depth in metres; None = as :func:`dadkit.alignment.align_to_points` says.
        second: a model, run or exported file that gives a second opinion. Its map is aligned to the same points in the same
            way, and the answer is the geometric mean of both, each weighted by the inverse of the variance that its global fit
            leaves at the points. Far from every point both are wrong, but not alike. None: no such model.
        second_options: of that model.
    """

    def __init__(
        self,
        local: Local = "fill",
        keep: Keep = "soft",
        max_depth: float | None = None,
        second: str | None = None,
        second_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        for key, value, known in (("local", local, get_args(Local)), ("keep", keep, get_args(Keep))):
            if value not in known:
                raise ValueError(f"{key} must be {', '.join(known[:-1])} or {known[-1]}, got {value!r}")
        if max_depth is not None and not max_depth > 0:
            raise ValueError(f"max_depth must be above 0 metres, got {max_depth}")
        self.spec = CompleterSpec(name="align")
        self.second = None if second is None else load_model(second, **(second_options or {}))
        if self.second is not None:
            if self.second.needs_camera:
                raise ValueError(f"second={second} needs the picture's camera; take a model that answers without")
            self.second.requires_grad_(False)
            self.spec = CompleterSpec(name="align", license=self.second.spec.license)
        self.local: Local = local
        self.keep: Keep = keep
        self.max_depth = max_depth

    def complete(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """See :meth:`dadkit.interfaces.Completer.complete`. Only the second model looks at ``images``, and nothing at
        ``intrinsics``."""
        if relative is None:
            raise ValueError("align needs the map of a depth model (relative=…)")
        fit = self._fit(relative, hints)
        depth = fit.depth if self.second is None else self._agreed(fit, images, hints)
        features = {"support": fit.support, "used": fit.used}
        return replace(relative, depth=depth, space=Space.METRIC, features=features)

    def _fit(self, relative: Prediction, hints: Hints) -> SparseFit:
        return align_to_points(
            relative.depth,
            relative.space,
            hints.depth,
            hints.valid,
            sigma=hints.sigma,
            local=self.local,
            keep=self.keep,
            max_depth=self.max_depth,
        )

    @torch.no_grad()
    def _agreed(self, fit: SparseFit, images: Tensor, hints: Hints) -> Tensor:
        """The mean of both. The change is computed at the size that the second model sees, so the first map keeps its
        details."""
        assert self.second is not None
        size = (fit.depth.shape[-2], fit.depth.shape[-1])
        seen = self.second.seen_size(*size) or size
        small, points = resize(images, seen, self.second.spec.native).clamp(0, 1), hints.at_size(seen)
        opinion = self.second.predict(list(small))
        other = self._fit(replace(opinion, depth=opinion.depth.to(fit.depth.device)), points)
        variance, others = _variance(fit, hints), _variance(other, points)
        apart = (other.depth.log() - F.interpolate(fit.depth.log(), seen, mode="area")).nan_to_num()
        apart = apart * (variance / (variance + others)).view(-1, 1, 1, 1)
        depth = fit.depth * F.interpolate(apart, size, mode="bilinear", align_corners=False).exp()
        depth = torch.minimum(depth, torch.maximum(fit.limits[:, 1].to(depth.dtype).view(-1, 1, 1, 1), fit.depth))
        return torch.where(fit.used, hints.depth, depth) if self.keep == "exact" else depth


def _variance(fit: SparseFit, hints: Hints) -> Tensor:
    """Returns (B,): the variance of log depth around the global fit at the kept points, from the median absolute deviation."""
    left = [(z[used] / fitted[used]).log() for z, used, fitted in zip(hints.depth, fit.used, fit.fitted, strict=True)]
    spread = torch.stack([(values - values.median()).abs().median() for values in left])
    return (1.4826 * spread).square() + LEAST_VARIANCE
