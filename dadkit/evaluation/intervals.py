"""How sure is a mean over images? Bootstrap intervals, a paired comparison of two models, sums over processes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch

__all__ = ["Comparison", "Interval", "Tally", "bootstrap_mean", "compare"]


@dataclass(frozen=True)
class Interval:
    """A confidence interval of a mean."""

    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two models on the same images, one metric.

    Attributes:
        images: how many images both have.
        difference: mean of first minus second.
        interval: its bootstrap interval; if it holds 0, the images do not tell the two apart.
        p_value: two-sided, of random sign flips of the differences.
        first_lower: share of images where the first's value is smaller.
        second_lower: share of images where the second's is.
    """

    images: int
    difference: float
    interval: Interval
    p_value: float
    first_lower: float
    second_lower: float


def bootstrap_mean(values: Sequence[float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0) -> Interval:
    """Percentile interval of the mean under resampling of images.

    Args:
        values: one per image.
        level: of confidence.
        resamples: number of resampled means.
        seed: of the draws.

    Returns:
        The interval; one image gives an interval of no width, which says nothing.
    """
    array = np.asarray(values, dtype=np.float64)
    means = _resampled_means(array, resamples, seed)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def compare(
    first: Mapping[str, float], second: Mapping[str, float], *, level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Comparison | None:
    """Paired comparison of key -> value of two models; None if they share no image."""
    keys = [key for key in first if key in second]
    if not keys:
        return None
    difference = np.asarray([first[key] - second[key] for key in keys], dtype=np.float64)
    rng = np.random.default_rng(seed)
    observed = abs(difference.mean())
    exceed, chunk = 0, max(1, min(resamples, 4_000_000 // len(keys)))
    for start in range(0, resamples, chunk):
        signs = rng.integers(0, 2, (min(chunk, resamples - start), len(keys))) * 2 - 1
        # The tolerance counts ties as ties: equal sums differ by rounding when their order differs.
        exceed += int((np.abs(signs @ difference) / len(keys) >= observed * (1 - 1e-12)).sum())
    return Comparison(
        images=len(keys),
        difference=float(difference.mean()),
        interval=bootstrap_mean(difference.tolist(), level=level, resamples=resamples, seed=seed),
        p_value=(exceed + 1) / (resamples + 1),
        first_lower=float((difference < 0).mean()),
        second_lower=float((difference > 0).mean()),
    )


def _resampled_means(array: np.ndarray, resamples: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    chunk = max(1, min(resamples, 4_000_000 // len(array)))
    parts = [
        array[rng.integers(0, len(array), (min(chunk, resamples - start), len(array)))].mean(1)
        for start in range(0, resamples, chunk)
    ]
    return np.concatenate(parts)


@dataclass
class Tally:
    """Sums of per-image metrics that can be added over processes, so that the mean is over all images, each counted once.

    Example::

        tally = Tally()
        for image in my_share:
            tally.add(metrics_of(image))
        mean = tally.all_reduce().mean()
    """

    count: int = 0
    sums: dict[str, float] = field(default_factory=dict)

    def add(self, metrics: Mapping[str, float]) -> None:
        """Count one image.

        Raises:
            ValueError: other names than before.
        """
        if self.count and self.sums.keys() != metrics.keys():
            raise ValueError(f"a tally counts the same metrics for each image; got {sorted(metrics)}, not {sorted(self.sums)}")
        for name, value in metrics.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += 1

    def __add__(self, other: Tally) -> Tally:
        names = {**self.sums, **other.sums}
        return Tally(self.count + other.count, {n: math.fsum((self.sums.get(n, 0), other.sums.get(n, 0))) for n in names})

    def all_reduce(self) -> Tally:
        """Returns the sum over all processes of ``torch.distributed``, some of which may have counted none."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return self
        tallies: list[Tally | None] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(tallies, self)
        total = Tally()
        for tally in tallies:
            assert tally is not None
            total = total + tally
        return total

    def mean(self) -> dict[str, float]:
        """Mean over images; NaN where there are none."""
        return {name: total / self.count if self.count else math.nan for name, total in self.sums.items()}
