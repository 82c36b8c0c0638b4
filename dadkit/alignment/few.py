"""Metres from a few known distances: one robust pair for a relative map, its expected error, and the points that disagree.

Three forms are tried and the one with the smallest leave-one-out error is kept: one factor; a factor with a shift, by the
median of the slopes of all pairs (Theil 1950, Sen 1968), of which 29 % may be wrong; and a factor with a power, which is the
same line between logarithms. Two numbers need three points. A power never puts a positive value beyond infinity.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.spaces import Space

__all__ = ["CalibrationError", "FewFit", "Form", "fit_few"]

BEYOND = 3.0
"""Metres may go beyond the known distances by this factor; from there on a map is extrapolated."""
LEAST_SPAN = 0.2
"""A shift or a power needs points over at least this part of the map's range."""
MOST_IMPOSSIBLE = 0.01
"""At most this part of the map may be at no positive finite distance."""
MOST_PAIRED = 200
"""Points of which all pairs are taken; of more points so many are taken evenly, and none is left out in turn."""
DISAGREES = 0.1
"""A point within 10 % of the fit agrees in any case."""

Form = Literal["auto", "scale", "affine", "power"]


class CalibrationError(DadkitError):
    """Known distances that give no metres; the message says why, and what to measure."""

    exit_code = 2


@dataclass(frozen=True)
class FewFit:
    """What :func:`fit_few` found.

    Attributes:
        form: ``scale``, ``affine`` or ``power``.
        scale, shift, power: metres are scale * value ** power + shift, for disparity 1 divided by this.
        nearest, farthest: metres beyond which the fit is not trusted.
        metres: (n,) what the fit answers at the points.
        residuals: (n,) the same divided by the known metres, minus 1.
        left_out: (n,) the same for fits without the point; empty for fewer than three points and for sets.
        disagree: indices of points that do not fit to the others.
        refused: why no shift was fitted; empty if one was tried.
    """

    form: str
    scale: float
    shift: float
    power: float
    nearest: float
    farthest: float
    metres: Sequence[float]
    residuals: Sequence[float]
    left_out: Sequence[float]
    disagree: Sequence[int]
    refused: str

    @property
    def expected(self) -> float | None:
        """The expected relative error of other pixels: the median of ``left_out`` without signs; None if there is none."""
        return float(torch.tensor(self.left_out).abs().median()) if self.left_out else None


def fit_few(values: Tensor, metres: Tensor, space: Space | str, maps: Tensor, *, form: Form = "auto") -> FewFit:
    """Fit the pair that brings ``values`` to ``metres``, in the space of the values.

    Args:
        values: (n,) what the model answers at the points.
        metres: (n,) their true distances along the optical axis.
        space: of the values.
        maps: any shape: all values in view, which must become possible distances.
        form: ``scale``, ``affine`` or ``power``; ``auto`` takes the one with the smallest leave-one-out error. Maps in
            ``scale`` and ``metric`` space have a factor only.

    Raises:
        CalibrationError: fewer than two points, a distance that is not positive, or no form that gives possible distances.
    """
    space, values, metres = Space(space), values.double().cpu(), metres.double().cpu()
    if len(values) < 2:
        raise CalibrationError(f"at least two known distances are needed, better five, from near to far; got {len(values)}")
    if not bool(((metres > 0) & metres.isfinite()).all()):
        raise CalibrationError(f"distances are positive metres; got {metres.tolist()}")
    fitter = _Fitter(space, metres, maps.double().flatten().cpu())
    forms = ("affine", "power", "scale") if form == "auto" else (form,)
    refusals = {name: fitter.why_not(name, values, metres) for name in forms}
    if form != "auto" and refusals[form]:
        raise CalibrationError(f"no {'shift' if form == 'affine' else form} can be fitted: {refusals[form]}")
    tried = [
        (name, fitter.fit(name, values, metres), fitter.left_out(name, values, metres)) for name in forms if not refusals[name]
    ]
    possible = [row for row in tried if row[1].scale > 0]
    refused = refusals.get("affine", "")
    if not possible:
        raise CalibrationError(
            "the model's values at these points are not positive multiples of the metres, so one factor cannot be fitted"
            + (f"; a shift cannot either: {refused}" if refused else "; try other points")
        )
    name, curve, left_out = min(possible, key=lambda row: sum(map(_size, row[2])))
    answer = fitter.metres(values, curve)
    residuals = answer / metres - 1
    return FewFit(
        name,
        *curve,
        fitter.nearest,
        fitter.farthest,
        answer.tolist(),
        residuals.tolist(),
        left_out,
        _disagreeing(residuals) if len(values) > 3 else [],
        refused,
    )


class _Curve(NamedTuple):
    """In the space of the values: scale * value ** power + shift."""

    scale: float
    shift: float = 0.0
    power: float = 1.0


@dataclass(frozen=True)
class _Fitter:
    space: Space
    known: Tensor
    maps: Tensor

    @property
    def nearest(self) -> float:
        return float(self.known.min()) / BEYOND

    @property
    def farthest(self) -> float:
        return float(self.known.max()) * BEYOND

    def target(self, metres: Tensor) -> Tensor:
        return metres.reciprocal() if self.space is Space.DISPARITY else metres

    def fit(self, form: str, values: Tensor, metres: Tensor) -> _Curve:
        target = self.target(metres)
        if form == "affine":
            # An error of the inverse is a relative error of the distance times the inverse itself.
            return _Curve(*_slopes(values, target, metres if self.space is Space.DISPARITY else metres.reciprocal()))
        if not bool((values > 0).all()):
            return _Curve(0.0)  # refused by the caller
        if form == "power":
            power, logarithm = _slopes(values.log(), target.log(), torch.ones_like(target))
            return _Curve(math.exp(logarithm), 0.0, power)
        return _Curve(_factor(values, target))

    def metres(self, values: Tensor, curve: _Curve) -> Tensor:
        fitted = curve.scale * (values if curve.power == 1 else values.clamp(min=0) ** curve.power) + curve.shift
        if self.space is Space.DISPARITY:
            return fitted.clamp(min=1 / self.farthest).reciprocal().clamp(min=self.nearest)
        return fitted.clamp(self.nearest, self.farthest)

    def left_out(self, form: str, values: Tensor, metres: Tensor) -> list[float]:
        if not 3 <= len(values) <= MOST_PAIRED:
            return []
        errors = []
        for index in range(len(values)):
            rest = torch.arange(len(values)) != index
            curve = self.fit(form, values[rest], metres[rest])
            errors.append(float(self.metres(values[index : index + 1], curve) / metres[index] - 1))
        return errors

    def why_not(self, form: str, values: Tensor, metres: Tensor) -> str:
        """Returns why a form cannot be fitted; empty if it can be tried."""
        if form == "scale":
            return ""
        second = "shift" if form == "affine" else "power"
        if self.space in (Space.SCALE, Space.METRIC):
            return f"maps of space {self.space} have none"
        if len(values) < 3:
            return f"two points cannot tell a factor and a {second} from an error of the tape; three can"
        ordered = self.maps.sort().values
        low, high = float(ordered[len(ordered) // 100]), float(ordered[-1 - len(ordered) // 100])
        span = float(values.max() - values.min()) / max(high - low, 1e-12)
        if span < LEAST_SPAN:
            return f"the points span {span:.0%} of the map's range; measure something nearer and something farther"
        if form == "power" and not bool((values > 0).all()):
            return "the model's values at these points are not all positive"
        curve = self.fit(form, values, metres)
        if min(curve.scale, curve.power) <= 0:
            nearer = "nearer" if self.space is Space.DISPARITY else "farther"
            return f"by these points what the model calls {nearer} would be the other way; check the places and the metres"
        positive = self.maps > (0 if form == "power" else -curve.shift / curve.scale)
        impossible = 1 - float(positive.double().mean())
        if impossible > MOST_IMPOSSIBLE:
            where = "beyond infinity" if self.space is Space.DISPARITY else "at negative distances"
            return f"it puts {impossible:.0%} of the view {where}"
        return ""


def _slopes(x: Tensor, y: Tensor, weight: Tensor) -> tuple[float, float]:
    """Returns the weighted median of the slopes of all pairs, heavier the farther apart they are; then of what is left."""
    if len(x) > MOST_PAIRED:
        chosen = x.argsort()[torch.linspace(0, len(x) - 1, MOST_PAIRED).round().long()]
        x, y, weight = x[chosen], y[chosen], weight[chosen]
    first, second = torch.triu_indices(len(x), len(x), 1)
    apart = x[first] - x[second]
    usable = apart != 0
    if not bool(usable.any()):
        return 0.0, float(y.median())
    slope = (y[first] - y[second])[usable] / apart[usable]
    scale = _weighted_median(slope, apart[usable].abs() * (weight[first] * weight[second])[usable])
    return scale, _weighted_median(y - scale * x, weight)


def _factor(x: Tensor, y: Tensor) -> float:
    """Returns the median of the ratios, between the middle two for even counts, in the logarithm."""
    return math.exp(float((y / x).log().quantile(0.5)))


def _weighted_median(values: Tensor, weight: Tensor) -> float:
    order = values.argsort()
    sums = weight[order].cumsum(0)
    return float(values[order][int(torch.searchsorted(sums, 0.5 * sums[-1]))])


def _disagreeing(residuals: Tensor) -> list[int]:
    sizes = (1 + residuals).log().abs()
    limit = max(DISAGREES, 3 * 1.4826 * float(sizes.median()))
    return (sizes > limit).nonzero().flatten().tolist()


def _size(error: float) -> float:
    return abs(math.log1p(max(error, -0.999)))
