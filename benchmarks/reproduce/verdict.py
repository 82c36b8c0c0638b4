"""Does a published ordering hold here? Paired differences over seeds, and Student's t."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from scipy.stats import t as student_t

__all__ = ["LEVEL", "Estimate", "Verdict", "estimate", "judge"]

LEVEL = 0.95

Answer = Literal["holds", "does not hold", "undecided"]


@dataclass(frozen=True)
class Estimate:
    """A mean over seeds with its confidence interval, which is infinite for one seed."""

    seeds: int
    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Verdict:
    """What the runs say about "``better`` is below ``worse``".

    Attributes:
        difference: worse minus better, seed by seed: above 0 where the ordering is as published.
        answer: ``holds`` if the whole interval is above 0, ``does not hold`` if it is below, else ``undecided``.
    """

    better: str
    worse: str
    difference: Estimate
    answer: Answer


def estimate(values: list[float]) -> Estimate:
    """mean ± t(0.975, n-1) s/√n over seeds, s the sample standard deviation.

    One value has an infinite interval. Values that are all the same have one of no width: a frozen teacher's, say.
    """
    if not values:
        raise ValueError("there is no value to take a mean of")
    count, mean = len(values), statistics.fmean(values)
    if count == 1:
        return Estimate(1, mean, -math.inf, math.inf)
    half = float(student_t.ppf((1 + LEVEL) / 2, count - 1)) * statistics.stdev(values) / math.sqrt(count)
    return Estimate(count, mean, mean - half, mean + half)


def judge(better: str, worse: str, values: Mapping[str, Mapping[int, float]]) -> Verdict | None:
    """Compare two rows on the seeds that both have; None if there are none.

    Args:
        better, worse: the rows, as published.
        values: row -> seed -> error (lower is better).
    """
    first, second = values.get(better, {}), values.get(worse, {})
    seeds = [seed for seed in first if seed in second]
    if not seeds:
        return None
    difference = estimate([second[seed] - first[seed] for seed in seeds])
    answer: Answer = "undecided"
    if difference.low > 0:
        answer = "holds"
    elif difference.high < 0:
        answer = "does not hold"
    return Verdict(better, worse, difference, answer)
