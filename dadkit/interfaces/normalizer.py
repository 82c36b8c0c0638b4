"""The interface of normalizers."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

__all__ = ["Normalizer"]


@runtime_checkable
class Normalizer(Protocol):
    """Maps prediction and target to comparable values.

    A normalizer may also offer ``loss(pred, target, mask, *, reduction, trim, backend) -> Tensor``, the fused path of
    ``(weight * |pred_n - target_n|)`` summed over levels, and ``local_global(pred, target, boxes, mask, *, pred_mask,
    reduction, trim, backend)``, the same between a map and its patches. Without them ``dadkit.normalizers.map_loss`` and
    ``local_global`` take the mean from ``__call__``'s answer. A method may leave out keywords that it does not know; then it is
    not called where they matter, and a run with ``backend: fused`` is refused.
    """

    def __call__(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise both maps.

        Args:
            pred: (B, 1, H, W) or (B, H, W), the student's map; gets gradients.
            target: same shape, the teacher's map; its values cut the segments.
            mask: bool of the same shape, True = valid; None = all valid.

        Returns:
            ``(pred_n, target_n, weight)``, each (B, L, H, W) for L levels. ``weight`` is 0 where a pixel takes no part and
            sums over L to 1 where it does, so that ``(weight * |pred_n - target_n|).sum(1)`` is the loss per pixel.
        """
        ...
