"""Which of two points is nearer? Accuracy on annotated pairs, and WHDR on pairs drawn from a dense map."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dadkit.interfaces import Prediction
from dadkit.spaces import Space

__all__ = ["ORDINAL_METRICS", "ordinal_metrics", "whdr_of_depth"]

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
