"""No normalisation."""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.losses import l1_loss
from dadkit.losses.inputs import whole_maps
from dadkit.ops import Backend
from dadkit.ops.reference import Reduction

__all__ = ["Identity"]


class Identity:
    """Compares the maps as they are (``none``): plain L1.

    Both must be in one scale and shift. Teachers of different ranges need targets standardised beforehand, by the scale that
    ``dadkit.losses.ScaleAnchorLoss`` measures for each of them.
    """

    def __call__(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """The maps themselves as one level, 0 outside the mask; the weight is 1 inside; (B, 1, H, W) each."""
        p, d, m = whole_maps(pred, target, mask)
        valid = torch.ones_like(d, dtype=torch.bool) if m is None else m
        pred_n, target_n = torch.where(valid, p, 0), torch.where(valid, d.detach(), 0)
        return pred_n[:, None], target_n[:, None], valid.to(p.dtype)[:, None]

    def loss(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        *,
        reduction: Reduction = "mean",
        trim: float = 0.0,
        backend: Backend = "auto",
    ) -> Tensor:
        """``dadkit.losses.l1_loss``."""
        return l1_loss(pred, target, mask, trim=trim, reduction=reduction, backend=backend)

    def __repr__(self) -> str:
        return "Identity()"
