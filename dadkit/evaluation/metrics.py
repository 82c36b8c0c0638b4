"""Depth metrics per image, on aligned metric depth. Means over images are taken elsewhere; nothing pools pixels.

With p = prediction, g = truth, over the valid pixels of one image:

======== ==========================================
abs_rel  mean |p - g| / g
sq_rel   mean (p - g)^2 / g
rmse     sqrt(mean (p - g)^2), metres
rmse_log sqrt(mean (ln p - ln g)^2)
log10    mean |log10 p - log10 g|
delta1-3 share of pixels with max(p/g, g/p) < 1.25^k
======== ==========================================
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["HIGHER_IS_BETTER", "METRICS", "depth_metrics"]

METRICS = ("abs_rel", "sq_rel", "rmse", "rmse_log", "log10", "delta1", "delta2", "delta3")
HIGHER_IS_BETTER = frozenset({"delta1", "delta2", "delta3"})


def depth_metrics(prediction: Tensor, truth: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """All of :data:`METRICS` for each image.

    Args:
        prediction: (B, H, W) metric depth, positive and finite on ``valid`` (the protocol clips it).
        truth: (B, H, W) metric depth, positive and finite on ``valid``.
        valid: (B, H, W) bool; values elsewhere are never used.

    Returns:
        name -> (B,) float64; NaN for an image without valid pixels.
    """
    count = valid.sum((1, 2)).double()
    p = torch.where(valid, prediction.double(), 1.0)
    g = torch.where(valid, truth.double(), 1.0)

    def mean(values: Tensor) -> Tensor:
        return torch.where(valid, values, 0.0).sum((1, 2)) / count

    difference = p - g
    log_ratio = p.log() - g.log()
    ratio = torch.maximum(p / g, g / p)
    return {
        "abs_rel": mean(difference.abs() / g),
        "sq_rel": mean(difference.square() / g),
        "rmse": mean(difference.square()).sqrt(),
        "rmse_log": mean(log_ratio.square()).sqrt(),
        "log10": mean(log_ratio.abs()) / math.log(10),
        **{f"delta{k}": mean((ratio < 1.25**k).double()) for k in (1, 2, 3)},
    }
