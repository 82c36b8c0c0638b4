"""Pseudo-labels: one teacher looks at the regions and their patches, in one forward pass where the sizes allow it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dadkit.data.sample import Batch
from dadkit.interfaces import Prediction, Teacher
from dadkit.spaces import Space
from dadkit.training.pairs import to_float, usable

__all__ = ["PseudoLabels", "label"]


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """A teacher's answers for B images, in the student's space.

    Attributes:
        region, region_mask: (B, 1, v, v), or None if no term asks for them.
        patches, patch_mask: (B, N, p, p), or None.
        features: the teacher's feature taps on the regions; empty if it did not see them.
    """

    region: Tensor | None
    region_mask: Tensor | None
    patches: Tensor | None
    patch_mask: Tensor | None
    features: Mapping[str, Tensor]


def label(teacher: Teacher, batch: Batch, space: Space, *, regions: bool, patches: bool) -> PseudoLabels:
    """Let ``teacher`` label the clean pixels of ``batch``: its regions, its native-detail patches, or both."""
    count = batch.patches.shape[1]
    views = [batch.images] if regions else []
    if patches:
        views.append(batch.patches.flatten(0, 1))  # (B N, 3, p, p)
    if len(views) == 2 and views[0].shape[1:] == views[1].shape[1:]:
        answers = _split(teacher(to_float(torch.cat(views))), [len(view) for view in views])
    else:
        answers = [teacher(to_float(view)) for view in views]
    region, region_mask = usable(answers[0], space) if regions else (None, None)
    targets, masks = usable(answers[-1], space) if patches else (None, None)
    return PseudoLabels(
        region,
        region_mask,
        None if targets is None else targets.view(len(batch), count, *targets.shape[-2:]),
        None if masks is None else masks.view(len(batch), count, *masks.shape[-2:]),
        answers[0].features if regions else {},
    )


def _split(prediction: Prediction, sizes: list[int]) -> list[Prediction]:
    """A prediction on several stacks of images as one prediction per stack. Intrinsics, which no term uses, are dropped."""
    depths = prediction.depth.split(sizes)
    valids = [None] * len(sizes) if prediction.valid is None else prediction.valid.split(sizes)
    features = [{name: taps.split(sizes)[i] for name, taps in prediction.features.items()} for i in range(len(sizes))]
    return [Prediction(*parts[:1], prediction.space, *parts[1:]) for parts in zip(depths, valids, features, strict=True)]
