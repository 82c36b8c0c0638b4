"""Depth metrics per image, on aligned metric depth. Means over images are taken elsewhere; nothing pools pixels.

With p = prediction, g = truth and r = ln p - ln g over the n valid pixels of one image:

=============== ==========================================================================
abs_rel         mean |p - g| / g
sq_rel          mean (p - g)^2 / g, metres
rmse, mae       sqrt(mean (p - g)^2), mean |p - g|, metres
rmse_log        sqrt(mean r^2)
log10           mean |log10 p - log10 g|
silog_L         sqrt(mean r^2 - L (mean r)^2) with L the lambda in the name: ``silog_1``, ``silog_0.85``, ``silog_0.5``;
                ``silog_1_x100`` is 100 times as large, as KITTI, ZoeDepth and Marigold print it
delta1-3        share of pixels with max(p/g, g/p) < 1.25^k; ``delta_1.05`` is any other threshold
bad1            100 * share of pixels with max(p/g, g/p) > 1.25: MiDaS's percentage of bad pixels
irmse, imae     of 1/p and 1/g, in 1/m; ``irmse_km`` and ``imae_km`` in 1/km, as KITTI's depth completion prints them
rmse_norm       rmse and mae after both maps are divided by the truth's largest value in the image (the definition is ours)
mae_norm
whdr            share of 5,000 seeded random pixel pairs in wrong order (nearer, farther, equal within 2 %)
boundary_f1     agreement of depth edges (:func:`boundary_f1`)
ssi_mae         mean |p - g| / mean |g - median(g)|: MiDaS's scale for maps known up to scale and shift; 1 for a constant map
ssi_rmse        sqrt(mean (p - g)^2) / standard deviation of g; 1 for a constant map fitted by least squares
abs_rel_4_to_16 abs_rel of the pixels that are 4 to 16 pixels away from the nearest point that a completer was given; any two
                numbers, or one: ``abs_rel_from_16``. Images without such pixels are in no mean
correlation     Pearson's, of p and g; 0 where one of them is constant
=============== ==========================================================================

The last three (:data:`RELATIVE_METRICS`) need no metres and no sign: they measure maps that are known up to scale and shift.

Ordinal accuracy asks which of two points is nearer: on annotated pairs, and as WHDR on pairs drawn from a dense map.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from types import MappingProxyType

import torch
from torch import Tensor

from dadkit.interfaces import Prediction
from dadkit.spaces import Space

__all__ = [
    "BOUNDARY_THRESHOLDS",
    "DEPTH_METRICS",
    "HIGHER_IS_BETTER",
    "METRICS",
    "ORDINAL_METRICS",
    "RELATIVE_METRICS",
    "Metric",
    "Pair",
    "boundary_f1",
    "find_metric",
    "measure",
    "ordinal_metrics",
    "whdr_of_depth",
]


METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "delta1", "delta2", "delta3")
"""What a protocol measures unless it says otherwise."""


RELATIVE_METRICS = ("ssi_mae", "ssi_rmse", "correlation")
"""What can be measured against labels that are known up to scale and shift."""


class Pair:
    """Prediction and truth on the valid pixels of one image; what several metrics need is computed once.

    Args:
        p: (n,) float64 prediction, n > 0, finite, and positive unless the labels are relative.
        g: (n,) float64 truth, likewise.
        maps: gives prediction, truth and validity as (H, W) maps, to metrics that look at neighbours.
        away: gives the (n,) distances in pixels to the nearest sparse point; None if there are no points.
    """

    def __init__(
        self,
        p: Tensor,
        g: Tensor,
        maps: Callable[[], tuple[Tensor, Tensor, Tensor]],
        away: Callable[[], Tensor] | None = None,
    ) -> None:
        self.p, self.g, self.maps, self._away = p, g, maps, away

    @cached_property
    def away(self) -> Tensor | None:
        """Distance to the nearest sparse point, or None."""
        return None if self._away is None else self._away()

    @cached_property
    def error(self) -> Tensor:
        """|p - g|."""
        return (self.p - self.g).abs_()

    @cached_property
    def relative(self) -> Tensor:
        """|p - g| / g."""
        return self.error / self.g

    @cached_property
    def quotient(self) -> Tensor:
        """p / g."""
        return self.p / self.g

    @cached_property
    def ratio(self) -> Tensor:
        """max(p/g, g/p)."""
        return torch.maximum(self.quotient, self.g / self.p)

    @cached_property
    def log_ratio(self) -> Tensor:
        """ln p - ln g."""
        return self.quotient.log()

    @cached_property
    def inverse_error(self) -> Tensor:
        """|1/p - 1/g|."""
        return (self.p.reciprocal() - self.g.reciprocal()).abs_()

    def share(self, threshold: float) -> float:
        """Returns the share of pixels with a ratio strictly below ``threshold``."""
        return int(torch.count_nonzero(self.ratio < threshold)) / self.p.numel()


@dataclass(frozen=True)
class Metric:
    """A named number: how it is computed, what it is called in tables, which direction is better."""

    name: str
    title: str
    compute: Callable[[Pair], Tensor | float]
    higher_is_better: bool = False
    partial: bool = False
    """True if some images have no such pixel; their value is NaN and in no mean."""

    @property
    def heading(self) -> str:
        """The title with an arrow towards better."""
        return f"{self.title} {'↑' if self.higher_is_better else '↓'}"


def _parts_of(spread: Tensor, error: Tensor) -> Tensor:
    """Returns the error in parts of the truth's spread; of a constant truth 0 where it is met and infinity elsewhere."""
    return error / spread if spread > 0 else torch.where(error > 0, torch.inf, 0.0)


def _correlation(pair: Pair) -> Tensor:
    p, g = pair.p - pair.p.mean(), pair.g - pair.g.mean()
    norm = torch.linalg.vector_norm(p) * torch.linalg.vector_norm(g)
    return torch.dot(p, g) / norm if norm > 0 else torch.zeros((), dtype=torch.float64)


def _root_mean_square(values: Tensor) -> Tensor:
    return (torch.dot(values, values) / values.numel()).sqrt()


def _silog(lam: float, factor: float) -> Callable[[Pair], Tensor]:
    def compute(pair: Pair) -> Tensor:
        r = pair.log_ratio
        if lam == 1:  # the variance, on centred values: no cancellation
            return factor * _root_mean_square(r - r.mean())
        return factor * (torch.dot(r, r) / r.numel() - lam * r.mean().square()).clamp_min(0).sqrt()

    return compute


BOUNDARY_THRESHOLDS = tuple(0.05 + 0.2 * k / 9 for k in range(10))


def boundary_f1(prediction: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Are depth edges where the truth has them? Scale-invariant boundary F1 of one image, after *Depth Pro*, eq. 3-5.

    Two neighbouring pixels i, j have an occluding contour between them, at threshold t, if d(j) / d(i) > 1 + t. Precision is
    the share of the prediction's contours that the truth has in the same place and direction, recall the share of the truth's
    that the prediction has. F1 is taken at ten thresholds from 5 % to 25 %, weighted by the threshold, and over right and down
    neighbours in both directions at once. Blurred edges spread one jump over several small ones and lose recall.

    Args:
        prediction: (H, W) positive depth.
        truth: (H, W) positive depth.
        valid: (H, W) bool; pairs with an invalid pixel take no part.

    Returns:
        float64 scalar in [0, 1]. Where neither map has a contour at a threshold, that threshold counts as 1; where only one of
        them has, as 0.
    """
    predicted, true = _steps(prediction, valid), _steps(truth, valid)
    total, weights = torch.zeros((), dtype=torch.float64, device=prediction.device), 0.0
    for threshold in BOUNDARY_THRESHOLDS:
        limit = math.log1p(threshold)
        # The sign says which side is nearer, so a contour the wrong way round is no hit.
        p_up, p_down, t_up, t_down = predicted > limit, predicted < -limit, true > limit, true < -limit
        hits = ((p_up & t_up) | (p_down & t_down)).sum().double()
        both = (p_up | p_down).sum() + (t_up | t_down).sum()
        total += threshold * torch.where(both > 0, 2 * hits / both.clamp_min(1), 1.0)
        weights += threshold
    return total / weights


def _steps(depth: Tensor, valid: Tensor) -> Tensor:
    """Log ratios between right and down neighbours, (m,) over pairs of valid pixels."""
    log = torch.where(valid, depth.double(), 1.0).log()
    right, down = log[:, 1:] - log[:, :-1], log[1:] - log[:-1]
    return torch.cat([right[valid[:, 1:] & valid[:, :-1]], down[valid[1:] & valid[:-1]]])


def _abs_rel_between(pair: Pair, *, low: float, high: float) -> float:
    if pair.away is None:
        return math.nan
    there = (pair.away >= low) & (pair.away < high)
    return float(pair.relative[there].mean())


def _metrics() -> dict[str, Metric]:
    listed = [
        Metric("abs_rel", "AbsRel", lambda x: x.relative.mean()),
        Metric("sq_rel", "SqRel (m)", lambda x: torch.dot(x.error, x.relative) / x.p.numel()),
        Metric("rmse", "RMSE (m)", lambda x: _root_mean_square(x.error)),
        Metric("mae", "MAE (m)", lambda x: x.error.mean()),
        Metric("rmse_log", "RMSElog", lambda x: _root_mean_square(x.log_ratio)),
        Metric("log10", "log10", lambda x: x.log_ratio.abs().mean() / math.log(10)),
        *(Metric(f"delta{k}", f"δ{k}", lambda x, k=k: x.share(1.25**k), higher_is_better=True) for k in (1, 2, 3)),  # type: ignore[misc]
        Metric("bad1", "bad pixels (%)", lambda x: 100 * int(torch.count_nonzero(x.ratio > 1.25)) / x.p.numel()),
        Metric("irmse", "iRMSE (1/m)", lambda x: _root_mean_square(x.inverse_error)),
        Metric("imae", "iMAE (1/m)", lambda x: x.inverse_error.mean()),
        Metric("irmse_km", "iRMSE (1/km)", lambda x: 1000 * _root_mean_square(x.inverse_error)),
        Metric("imae_km", "iMAE (1/km)", lambda x: 1000 * x.inverse_error.mean()),
        Metric("rmse_norm", "RMSE (norm.)", lambda x: _root_mean_square(x.error) / x.g.max()),
        Metric("mae_norm", "MAE (norm.)", lambda x: x.error.mean() / x.g.max()),
        Metric("whdr", "WHDR", lambda x: whdr_of_depth(x.p, x.g)),
        Metric("boundary_f1", "boundary F1", lambda x: boundary_f1(*x.maps()), higher_is_better=True),
        Metric("ssi_mae", "SSI MAE", lambda x: _parts_of((x.g - x.g.median()).abs().mean(), x.error.mean())),
        Metric("ssi_rmse", "SSI RMSE", lambda x: _parts_of(x.g.std(correction=0), _root_mean_square(x.error))),
        Metric("correlation", "correlation", _correlation, higher_is_better=True),
        *(Metric(f"silog_{lam:g}", f"SILog λ={lam:g}", _silog(lam, 1)) for lam in (1, 0.85, 0.5)),
        Metric("silog_1_x100", "SILog λ=1 ×100", _silog(1, 100)),
    ]
    return {metric.name: metric for metric in listed}


DEPTH_METRICS = MappingProxyType(_metrics())
"""The metrics with fixed names; ``silog_L``, ``silog_L_x100`` and ``delta_T`` exist for every number (:func:`find_metric`)."""

HIGHER_IS_BETTER = frozenset(name for name, metric in DEPTH_METRICS.items() if metric.higher_is_better) | {"pair_accuracy"}


def find_metric(name: str) -> Metric:
    """Returns the metric of that name.

    Raises:
        KeyError: there is none.
    """
    if name in DEPTH_METRICS:
        return DEPTH_METRICS[name]
    number = r"(\d+(?:\.\d+)?)"
    if found := re.fullmatch(rf"silog_{number}(_x100)?", name):
        lam, times = float(found[1]), bool(found[2])
        if lam <= 1:
            return Metric(name, f"SILog λ={lam:g}{' ×100' if times else ''}", _silog(lam, 100 if times else 1))
    if found := re.fullmatch(rf"abs_rel_(?:{number}_to_|from_){number}", name):
        low, high = (float(found[2]), math.inf) if found[1] is None else (float(found[1]), float(found[2]))
        if low < high:
            span = f"{low:g}-{high:g} px" if high < math.inf else f"from {low:g} px"
            return Metric(name, f"AbsRel {span}", partial(_abs_rel_between, low=low, high=high), partial=True)
    if (found := re.fullmatch(rf"delta_{number}", name)) and float(found[1]) > 1:
        threshold = float(found[1])
        return Metric(name, f"δ {threshold:g}", lambda x: x.share(threshold), higher_is_better=True)
    raise KeyError(name)


def measure(
    p: Tensor,
    g: Tensor,
    names: Sequence[str],
    maps: Callable[[], tuple[Tensor, Tensor, Tensor]],
    away: Callable[[], Tensor] | None = None,
) -> dict[str, float]:
    """Returns the metrics ``names`` of one image; arguments as in :class:`Pair`, NaN where n is 0.

    Raises:
        KeyError: an unknown name.
    """
    metrics = [find_metric(name) for name in names]
    if p.numel() == 0:
        return dict.fromkeys(names, math.nan)
    pair = Pair(p, g, maps, away)
    return {metric.name: float(metric.compute(pair)) for metric in metrics}


ORDINAL_METRICS = ("pair_accuracy", "whdr")
EQUAL_RATIO = 1.02
PAIRS = 5000


def ordinal_metrics(prediction: Prediction, points: Tensor, nearer: Tensor, weights: Tensor | None = None) -> dict[str, float]:
    """Agreement with annotated pairs of one image.

    Args:
        prediction: one image's, in any space.
        points: (N, 2, 2) row and column of the two points of each pair, in pixels of the prediction (the pixel that holds the
            point is read; points outside are moved to the border).
        nearer: (N,) 0 or 1: which point of the pair is nearer.
        weights: (N,) of the annotations, or None for 1.

    Returns:
        ``pair_accuracy``, the share of pairs told correctly, and ``whdr``, the weighted share told wrongly. Equal values, and
        values that are not finite, count as wrong. Datasets swap the two points at random, so that "always the first" gets 0.5.
    """
    values = prediction.depth[0, 0].double().cpu()
    nearness = values if prediction.space is Space.DISPARITY else -values
    rows = points[..., 0].long().clamp(0, values.shape[0] - 1)
    columns = points[..., 1].long().clamp(0, values.shape[1] - 1)
    first, second = nearness[rows, columns].unbind(1)
    correct = torch.where(nearer == 0, first > second, second > first) & first.isfinite() & second.isfinite()
    weight = torch.ones(len(nearer), dtype=torch.float64) if weights is None else weights.double()
    wrong = float((weight * ~correct).sum() / weight.sum())
    return {"pair_accuracy": float(correct.double().mean()), "whdr": wrong}


def whdr_of_depth(prediction: Tensor, truth: Tensor, *, pairs: int = PAIRS, seed: int = 0) -> Tensor:
    """Returns the share of random pixel pairs that are in wrong order of depth.

    A pair is "equal" where the ratio of its depths is within 2 %, else "first nearer" or "second nearer"; prediction and
    truth must say the same. The same random fractions are drawn for every image, so the value depends on nothing else.

    Args:
        prediction: (n,) aligned depth, positive.
        truth: (n,) depth, positive.
        pairs: number of pairs.
        seed: of the draws.
    """
    index = (_fractions(pairs, seed) * truth.numel()).long().to(truth.device)

    def order(values: Tensor) -> Tensor:
        a, b = values[index].unbind(1)
        return torch.where(a > EQUAL_RATIO * b, 1, torch.where(b > EQUAL_RATIO * a, -1, 0))

    return (order(prediction) != order(truth)).double().mean()


@lru_cache(maxsize=8)
def _fractions(pairs: int, seed: int) -> Tensor:
    return torch.rand(pairs, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
