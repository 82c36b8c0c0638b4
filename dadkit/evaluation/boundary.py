"""Are depth edges where the truth has them? Scale-invariant boundary F1, after Bochkovskii et al., *Depth Pro*, eq. 3-5.

Two neighbouring pixels i, j have an occluding contour between them, at threshold t, if d(j) / d(i) > 1 + t. Precision is the
share of the prediction's contours that the truth has in the same place and direction, recall the share of the truth's that the
prediction has. F1 is taken at ten thresholds from 5 % to 25 %, weighted by the threshold, and over right and down neighbours
in both directions at once. Blurred edges spread one jump over several small ones and lose recall.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["THRESHOLDS", "boundary_f1"]

THRESHOLDS = tuple(0.05 + 0.2 * k / 9 for k in range(10))


def boundary_f1(prediction: Tensor, truth: Tensor, valid: Tensor) -> Tensor:
    """Weighted F1 of the occluding contours of one image; larger is better.

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
    for threshold in THRESHOLDS:
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
