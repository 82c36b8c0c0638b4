"""What the terms of the total compare: a student's map and a target in the student's space, with the pixels that count."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from dadkit.data.sample import Batch
from dadkit.interfaces import Prediction
from dadkit.ops.reference import sample_boxes
from dadkit.spaces import Space, convert

__all__ = ["MapPair", "PatchPair", "labelled_target", "to_float", "usable"]


@dataclass(frozen=True, eq=False)
class MapPair:
    """Predictions beside their targets, a row each.

    Attributes:
        pred: (R, 1, H, W) float32, the student's maps, with gradient.
        target: (R, 1, H, W) float32, in the student's space, at its source's own scale.
        mask: (R, 1, H, W) bool, True where the target is known and finite.
        images: number of images these rows come from (R, unless they are patches or regions).
        scale: what brings the target to the student's magnitude: gamma / c of its source (see ``scale.py``); (R,) where rows
            have sources of their own.
        weights: (R,) the rows' shares of their images, where those are cut into regions (see ``regions.py``).
        intrinsics, frames: (R, 3, 3) of the targets' images, where the data know them; as in ``Batch``.
        labelled: the target is true depth.
        raw: the main term compares values, not normalised ones; gradients are then matched raw too, and no anchor is needed.
        slopes: gradients are matched on this pair.
        whole: these are whole views; anchor and extra losses take no others.
    """

    pred: Tensor
    target: Tensor
    mask: Tensor
    images: int
    scale: float | Tensor = 1.0
    weights: Tensor | None = None
    intrinsics: Tensor | None = None
    frames: Tensor | None = None
    labelled: bool = False
    raw: bool = False
    slopes: bool = True
    whole: bool = True

    @property
    def scaled_target(self) -> Tensor:
        """The target at the student's magnitude, for terms that compare values."""
        return _scaled(self.target, self.scale)

    def mean(self, loss: Callable[..., Tensor]) -> Tensor:
        """The mean over images of a loss that takes ``reduction="mean"`` or ``"image"``: regions count by their area."""
        if self.weights is None:
            return loss(reduction="mean")
        return (self.weights * loss(reduction="image")).sum() / self.images


@dataclass(frozen=True, eq=False)
class PatchPair:
    """The student's one map beside the teacher's native-detail patches of it.

    Attributes:
        pred: (B, 1, H, W) the student's whole map, with gradient.
        target, mask: (B, N, h, w) the teacher's patches and where they are valid.
        boxes: (B, N, 4) the patches in fractional pixels of ``pred``: x0, y0, x1, y1.
        scale: as in :class:`MapPair`.
    """

    pred: Tensor
    target: Tensor
    mask: Tensor
    boxes: Tensor
    scale: float | Tensor = 1.0

    @property
    def scaled_target(self) -> Tensor:
        """The target at the student's magnitude."""
        return _scaled(self.target, self.scale)

    def sampled(self, *, raw: bool) -> MapPair:
        """Every patch as a map of its own, (B N, 1, h, w): the student's map is sampled at the patches' pixels."""
        crops = sample_boxes(self.pred.squeeze(1), self.boxes, (self.target.shape[-2], self.target.shape[-1]))
        pred, target, mask = (x.flatten(0, 1).unsqueeze(1) for x in (crops, self.target, self.mask))
        scale = self.scale.repeat_interleave(self.target.shape[1]) if isinstance(self.scale, Tensor) else self.scale
        return MapPair(pred, target, mask, len(self.pred), scale, raw=raw, whole=False)


def _scaled(target: Tensor, scale: float | Tensor) -> Tensor:
    if isinstance(scale, Tensor):
        return target * scale[:, None, None, None]
    return target if scale == 1.0 else target * scale


def to_float(images: Tensor) -> Tensor:
    """uint8 (…, 3, H, W) to float32 in [0, 1]."""
    return images.float() / 255


def usable(prediction: Prediction, space: Space) -> tuple[Tensor, Tensor]:
    """A teacher's answer as target: ``(target, mask)`` in ``space``; the mask leaves out what is invalid or not finite."""
    converted = prediction.to_space(space)
    finite = converted.depth.isfinite()
    return converted.depth, finite if converted.valid is None else converted.valid & finite


def labelled_target(batch: Batch, space: Space) -> tuple[Tensor, Tensor]:
    """True depth as target: ``(target, mask)`` in ``space``, scaled to [0, 1] per map unless ``space`` is metric.

    Metric depth becomes disparity 1 / t (Depth Anything, section 3.1), in which infinitely far sky is a valid 0. A map of one
    value becomes 0.
    """
    assert batch.depth is not None
    assert batch.space is not None
    target, valid = convert(batch.depth, batch.valid, batch.space, space)
    mask = target.isfinite() if valid is None else valid & target.isfinite()
    return (target if space is Space.METRIC else _unit_range(target, mask)), mask


def _unit_range(values: Tensor, mask: Tensor) -> Tensor:
    """(B, 1, H, W) scaled to [0, 1] per map over the masked pixels; the others become 0."""
    low = values.masked_fill(~mask, torch.inf).amin((1, 2, 3), keepdim=True)
    high = values.masked_fill(~mask, -torch.inf).amax((1, 2, 3), keepdim=True)
    span = high - low  # -inf without a valid pixel: the mask below leaves nothing of it
    return ((values - low) / span.where(span > 0, 1.0)).masked_fill(~mask, 0.0)
