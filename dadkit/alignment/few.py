"""Metres from a few known distances: a robust fit for a relative map, its expected error, and the points that disagree.

Three simple forms are tried: one factor; a factor with a shift, by the median of the slopes of all pairs (Theil 1950, Sen
1968), of which 29 % may be wrong; and a factor with a power, which is the same line between logarithms. Two numbers need three
points. A power never puts a positive value beyond infinity. The form with the smallest leave-one-out error says which points
are wrong. From four points on a curve goes through the others: straight between logarithms from point to point, with points in
the wrong order pooled. It is kept unless a simple form predicts left-out points far better.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.spaces import Metres, Space

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

WRONG = 0.4
"""A curve leaves a point out that disagrees by more than this in the logarithm."""
FAR_BETTER = 2.0
"""A simple form is kept where the leave-one-out error of the curve, wrong points aside, is larger by more than this factor."""
PRECISE = 0.005
"""A simple form is kept where it predicts left-out points to within half a percent."""

Form = Literal["auto", "scale", "affine", "power", "curve"]


class CalibrationError(DadkitError):
    """Known distances that give no metres; the message says why, and what to measure."""

    exit_code = 2


@dataclass(frozen=True)
class FewFit:
    """What :func:`fit_few` found.

    Attributes:
        form: ``scale``, ``affine``, ``power`` or ``curve``.
        curve: brings values to metres.
        metres: (n,) what it answers at the points.
        residuals: (n,) the same divided by the known metres, minus 1.
        left_out: (n,) the same for fits without the point; empty for fewer than three points and for sets.
        disagree: indices of points that do not fit to the others.
        refused: why no shift was fitted; empty if one was tried.
    """

    form: str
    curve: Metres
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
    """Fit what brings ``values`` to ``metres``, in the space of the values.

    Args:
        values: (n,) what the model answers at the points.
        metres: (n,) their true distances along the optical axis.
        space: of the values.
        maps: any shape: all values in view, which must become possible distances.
        form: ``scale``, ``affine``, ``power`` or ``curve``; ``auto`` chooses by the leave-one-out error. Maps in ``scale`` and
            ``metric`` space have a factor only.

    Raises:
        CalibrationError: fewer than two points, a distance that is not positive, or no form that gives possible distances.
    """
    space, values, metres = Space(space), values.double().cpu(), metres.double().cpu()
    if len(values) < 2:
        raise CalibrationError(f"at least two known distances are needed, better five, from near to far; got {len(values)}")
    if not bool(((metres > 0) & metres.isfinite()).all()):
        raise CalibrationError(f"distances are positive metres; got {metres.tolist()}")
    fitter = _Fitter(space, metres, maps.double().flatten().cpu().sort().values)
    refusals = {name: fitter.why_not(name, values, metres) for name in (*_SIMPLE, "curve")}
    if form != "auto" and refusals[form]:
        raise CalibrationError(f"no {'shift' if form == 'affine' else form} can be fitted: {refusals[form]}")
    simple = {name: fitter.tried(name, values, metres) for name in _SIMPLE if not refusals[name]}
    possible = {name: found for name, found in simple.items() if found.curve.scale > 0}
    if not possible:
        refused = refusals["affine"]
        raise CalibrationError(
            "the model's values at these points are not positive multiples of the metres, so one factor cannot be fitted"
            + (f"; a shift cannot either: {refused}" if refused else "; try other points")
        )
    best = min(possible, key=lambda name: possible[name].error())
    name, guide = (best, possible[best]) if form in ("auto", "curve") else (form, simple[form])
    if not guide.curve.scale > 0:
        raise CalibrationError(f"no {form} can be fitted: the model's values are not positive multiples of the metres")
    disagree = _disagreeing(guide.curve(values) / metres) if len(values) > 3 else []
    found = guide
    if form == "curve" or (form == "auto" and not refusals["curve"]):
        bent = fitter.tried("curve", values, metres, guide=best)
        of_simple, of_curve = (row.error(apart_from=disagree) for row in (guide, bent))
        if form == "curve" or max(of_curve / FAR_BETTER, PRECISE * len(values)) <= of_simple:
            name, found = "curve", bent
    answer = found.curve(values)
    residuals = (answer / metres - 1).tolist()
    return FewFit(name, found.curve, answer.tolist(), residuals, found.left_out, disagree, refusals["affine"])


_SIMPLE = ("affine", "power", "scale")


@dataclass(frozen=True)
class _Tried:
    curve: Metres
    left_out: list[float]

    def error(self, apart_from: Sequence[int] = ()) -> float:
        return sum(abs(math.log1p(max(one, -0.999))) for index, one in enumerate(self.left_out) if index not in apart_from)


@dataclass(frozen=True)
class _Fitter:
    space: Space
    known: Tensor
    maps: Tensor  # sorted

    def curve(
        self, scale: float, shift: float = 0.0, power: float = 1.0, bends: tuple[tuple[float, float, float], ...] = ()
    ) -> Metres:
        nearest, farthest = float(self.known.min()) / BEYOND, float(self.known.max()) * BEYOND
        return Metres(self.space, scale, shift, nearest, farthest, power, bends)

    def target(self, metres: Tensor) -> Tensor:
        return metres.reciprocal() if self.space is Space.DISPARITY else metres

    def fit(self, form: str, values: Tensor, metres: Tensor, guide: str = "") -> Metres:
        target = self.target(metres)
        if form == "affine":
            # An error of the inverse is a relative error of the distance times the inverse itself.
            return self.curve(*_slopes(values, target, metres if self.space is Space.DISPARITY else metres.reciprocal()))
        if not bool((values > 0).all()):
            return self.curve(0.0)  # refused by the caller
        if form == "power":
            power, logarithm = _slopes(values.log(), target.log(), torch.ones_like(target))
            return self.curve(math.exp(logarithm), 0.0, power)
        if form == "curve":
            errors = self.fit(guide, values, metres)(values) / metres
            kept = errors.log().abs() <= WRONG
            kept[[index for index in range(len(values)) if index not in _disagreeing(errors)]] = True
            return self.curve(*_chain(values[kept].log().tolist(), target[kept].log().tolist()))
        return self.curve(_factor(values, target))

    def tried(self, form: str, values: Tensor, metres: Tensor, guide: str = "") -> _Tried:
        errors = []
        for index in range(len(values)) if 3 <= len(values) <= MOST_PAIRED else ():
            rest = torch.arange(len(values)) != index
            curve = self.fit(form, values[rest], metres[rest], guide)
            errors.append(float(curve(values[index : index + 1]) / metres[index] - 1))
        return _Tried(self.fit(form, values, metres, guide), errors)

    def why_not(self, form: str, values: Tensor, metres: Tensor) -> str:
        """Returns why a form cannot be fitted; empty if it can be tried."""
        if form == "scale":
            return ""
        second = "shift" if form == "affine" else form
        if self.space in (Space.SCALE, Space.METRIC):
            return f"maps of space {self.space} have none"
        if len(values) < 3:
            return f"two points cannot tell a factor and a {second} from an error of the tape; three can"
        if form == "curve" and len(values) < 4:
            return "three points cannot tell a curve from an error of the tape; four can"
        low, high = float(self.maps[len(self.maps) // 100]), float(self.maps[-1 - len(self.maps) // 100])
        span = float(values.max() - values.min()) / max(high - low, 1e-12)
        if span < LEAST_SPAN:
            return f"the points span {span:.0%} of the map's range; measure something nearer and something farther"
        if form != "affine" and not bool((values > 0).all()):
            return "the model's values at these points are not all positive"
        curve = self.fit("power" if form == "curve" else form, values, metres)
        if min(curve.scale, curve.power) <= 0:
            nearer = "nearer" if self.space is Space.DISPARITY else "farther"
            return f"by these points what the model calls {nearer} would be the other way; check the places and the metres"
        positive = self.maps > (-curve.shift / curve.scale if form == "affine" else 0)
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


def _chain(x: list[float], y: list[float]) -> tuple[float, float, float, tuple[tuple[float, float, float], ...]]:
    """Returns scale, shift, power and bends of a chain of straight lines, in logarithms, that never falls.

    Points in the wrong order, or of one value, are pooled: each becomes the mean of its pool (Barlow et al. 1972, pool adjacent
    violators). Beyond the ends it goes on as straight as from the first point to the last.
    """
    pools: list[tuple[float, float, int]] = []  # mean x, mean y, points
    for pool in sorted(zip(x, y, [1] * len(x), strict=True)):
        pools.append(pool)
        while len(pools) > 1 and (pools[-1][0] - pools[-2][0] < 1e-6 or pools[-1][1] <= pools[-2][1]):
            (x0, y0, n0), (x1, y1, n1) = pools[-2:]
            pools[-2:] = [((x0 * n0 + x1 * n1) / (n0 + n1), (y0 * n0 + y1 * n1) / (n0 + n1), n0 + n1)]
    (first, low, _), (last, high, _) = pools[0], pools[-1]
    power = (high - low) / (last - first) if len(pools) > 1 else 0.0
    bends = tuple((math.exp(x0), math.exp(x1), (y1 - y0) / (x1 - x0) - power) for (x0, y0, _), (x1, y1, _) in pairwise(pools))
    return math.exp(low - power * first), 0.0, power, bends if len(bends) > 1 else ()


def _disagreeing(ratios: Tensor) -> list[int]:
    """Indices of points whose fitted metres are not the known ones."""
    sizes = ratios.log().abs()
    limit = max(DISAGREES, 3 * 1.4826 * float(sizes.median()))
    return (sizes > limit).nonzero().flatten().tolist()
