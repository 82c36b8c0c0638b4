"""Pseudo-labels: one teacher looks at the regions and their patches, in one forward pass where the sizes allow it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dadkit.data.sample import Batch
from dadkit.interfaces import Prediction, Teacher
from dadkit.spaces import Space
from dadkit.training.pairs import to_float, usable

__all__ = ["PseudoLabels", "label", "split_prediction"]


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """A teacher's answers for B images, in the student's space.

    Attributes:
        region, region_mask: (B, 1, v, v), or None if no term asks for them.
        patches, patch_mask: (B, N, p, p), or None.
        features: the teacher's feature taps on the regions; empty if it did not see them.
    """

    region: Tensor | None = None
    region_mask: Tensor | None = None
    patches: Tensor | None = None
    patch_mask: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)


def label(teacher: Teacher, batch: Batch, space: Space, *, regions: bool, patches: bool) -> PseudoLabels:
    """Let ``teacher`` label the clean pixels of ``batch``: its regions, its native-detail patches, or both."""
    count = batch.patches.shape[1]
    views = [batch.images] if regions else []
    if patches:
        views.append(batch.patches.flatten(0, 1))  # (B N, 3, p, p)
    if len(views) == 2 and views[0].shape[1:] == views[1].shape[1:]:
        answers = split_prediction(teacher(to_float(torch.cat(views))), [len(view) for view in views])
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


def split_prediction(prediction: Prediction, sizes: Sequence[int]) -> list[Prediction]:
    """A prediction on several stacks of images as one prediction per stack. Intrinsics, which no term uses, are dropped."""
    ends = list(itertools.accumulate(sizes))
    parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return [
        Prediction(
            prediction.depth[part],
            prediction.space,
            None if prediction.valid is None else prediction.valid[part],
            {name: tap[part] for name, tap in prediction.features.items()},
        )
        for part in parts
    ]
