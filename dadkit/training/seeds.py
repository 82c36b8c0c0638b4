"""Randomness as a pure function of (seed, what it is for, step), so that a resumed run repeats what an uninterrupted one does.

No generator's state is ever saved: before each use the generators are seeded anew from a hash. Killing a run between two
steps therefore cannot change what the next step draws.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
import torch

from dadkit.data.sampling import derive

__all__ = ["draw_index", "seed_everything", "uniform"]


def uniform(seed: int, *parts: str | int) -> float:
    """Returns a number in [0, 1) that depends on every part."""
    return derive(seed, *parts) / 2**63


def draw_index(weights: Sequence[float], seed: int, *parts: str | int) -> int:
    """Draw an index with probability proportional to its weight.

    The engine draws the teacher of an iteration so, from (seed, stage, step): the whole batch gets one teacher (Distill Any
    Depth, section 3.2), and every rank of a distributed run draws the same one.

    Args:
        weights: positive numbers; they need not sum to 1.
        seed: the run's seed.
        parts: what is drawn, for instance ``"main", "teacher", step``.
    """
    left = uniform(seed, *parts) * sum(weights)
    for index, weight in enumerate(weights):
        left -= weight
        if left < 0:
            return index
    return len(weights) - 1  # rounding of the sum


def seed_everything(seed: int, *parts: str | int) -> None:
    """Seed torch (all devices), numpy and random, which dropout, drop-path and a plugin's own code draw from."""
    derived = derive(seed, *parts)
    torch.manual_seed(derived)
    random.seed(derived)
    np.random.seed(derived % 2**32)
