"""Gradients of normalised maps, apart for edges and for smooth places."""

import torch
from torch import Tensor, nn

from dadkit.interfaces import StepInputs, Term
from dadkit.losses import normalize


class EdgeGradient(Term):
    """exp(-s) * L_edge + s + L_smooth, with s learned (the log-variance weight of Kendall and Gal, 2018).

    L_edge and L_smooth are mean absolute differences between the gradients of both normalised maps, over the pixels where the
    target's gradient is above its threshold, and over the others.

    Args:
        threshold: gradient of the normalised target, per pixel, from which a place is an edge.
    """

    needs = frozenset({"regions", "labels"})

    def __init__(self, threshold: float = 0.2) -> None:
        super().__init__()
        self.threshold = threshold
        self.s = nn.Parameter(torch.zeros(()))

    def forward(self, inputs: StepInputs) -> Tensor:
        """The mean over images."""
        pair = inputs.maps
        pred, target = (normalize(x, pair.mask) for x in (pair.pred, pair.target))

        def loss(*, reduction: str) -> Tensor:
            total = 0
            for axis in (2, 3):
                both = pair.mask.narrow(axis, 1, pair.mask.shape[axis] - 1) & pair.mask.narrow(
                    axis, 0, pair.mask.shape[axis] - 1
                )
                slope = target.diff(dim=axis).where(both, 0)
                error = (pred.diff(dim=axis) - slope).abs().where(both, 0)
                edge = both & (slope.abs() > self.threshold)
                for part, weight in ((edge, (-self.s).exp()), (both & ~edge, 1)):
                    total = total + weight * error.where(part, 0).sum((1, 2, 3)) / part.sum((1, 2, 3)).clamp(min=1)
            return total.mean() if reduction == "mean" else total

        return pair.mean(loss) + self.s
