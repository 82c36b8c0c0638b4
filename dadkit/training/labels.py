"""Pseudo-labels: teachers look at regions and their patches, in one forward pass where the sizes allow it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from dadkit.interfaces import Prediction, Teacher
from dadkit.losses import normalize
from dadkit.spaces import Space
from dadkit.training.pairs import to_float, usable

__all__ = ["PseudoLabels", "average", "gather", "label", "split_prediction"]


@dataclass(frozen=True, eq=False)
class PseudoLabels:
    """Answers for B images, in the student's space.

    Attributes:
        region, region_mask: (B, 1, v, v), or None if no term asks for them.
        patches, patch_mask: (B', N, p, p) of those B' images whose patches are asked for, or None.
        features: the teacher's feature taps on the regions; empty if it did not see them, or several teachers did.
    """

    region: Tensor | None = None
    region_mask: Tensor | None = None
    patches: Tensor | None = None
    patch_mask: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=dict)


def label(teacher: Teacher, images: Tensor | None, patches: Tensor | None, space: Space) -> PseudoLabels:
    """Let ``teacher`` label regions (B, 3, v, v), native-detail patches (B', N, 3, p, p), or both; uint8, clean pixels."""
    views = [] if images is None else [images]
    if patches is not None:
        views.append(patches.flatten(0, 1))  # (B' N, 3, p, p)
    if len(views) == 2 and views[0].shape[1:] == views[1].shape[1:]:
        answers = split_prediction(_ask(teacher, torch.cat(views)), [len(view) for view in views])
    else:
        answers = [_ask(teacher, view) for view in views]
    region, region_mask = usable(answers[0], space) if images is not None else (None, None)
    targets, masks = usable(answers[-1], space) if patches is not None else (None, None)
    return PseudoLabels(
        region,
        region_mask,
        None if targets is None or patches is None else targets.view(*patches.shape[:2], *targets.shape[-2:]),
        None if masks is None or patches is None else masks.view(*patches.shape[:2], *masks.shape[-2:]),
        answers[0].features if images is not None else {},
    )


def _ask(teacher: Teacher, views: Tensor) -> Prediction:
    """The teacher's answer to uint8 views, without the bookkeeping of autograd; copied, so that losses may save it."""
    with torch.inference_mode():
        answer = teacher(to_float(views))
    valid = None if answer.valid is None else answer.valid.clone()
    return Prediction(answer.depth.clone(), answer.space, valid, {name: tap.clone() for name, tap in answer.features.items()})


def gather(parts: Sequence[tuple[PseudoLabels, Sequence[int], Sequence[int]]]) -> PseudoLabels:
    """One set of labels out of several teachers'; each part says at which places its regions and its patches belong."""

    def joined(given: Sequence[tuple[Tensor | None, Sequence[int]]]) -> Tensor | None:
        there = [(values, rows) for values, rows in given if values is not None]
        if not there:
            return None
        order = torch.tensor([row for _, rows in there for row in rows]).argsort()
        values = torch.cat([values for values, _ in there])
        return values[order.to(values.device)]

    return PseudoLabels(
        joined([(one.region, rows) for one, rows, _ in parts]),
        joined([(one.region_mask, rows) for one, rows, _ in parts]),
        joined([(one.patches, rows) for one, _, rows in parts]),
        joined([(one.patch_mask, rows) for one, _, rows in parts]),
    )


def average(labels: Sequence[PseudoLabels], space: Space) -> PseudoLabels:
    """The mean of several teachers' labels, for ablations: Distill Any Depth (Table 4) shows that it fails.

    Every map is normalised by its median and deviation, and at each pixel teacher T weighs exp(-mean |N_T - N_T'|) over the
    other teachers T', so that who disagrees with the others counts less (for two teachers: the plain mean). The paper does not
    give its rule. The mean is one of normalised maps, except in metric space: metres need no common scale, and must not lose
    theirs. A pixel counts where all teachers' masks agree.
    """

    def mean(values: Sequence[Tensor | None], masks: Sequence[Tensor | None]) -> tuple[Tensor | None, Tensor | None]:
        maps = [value for value in values if value is not None]
        given = [mask for mask in masks if mask is not None]
        if not maps:
            return None, None
        valid = torch.stack(given).all(0)
        flat = valid.flatten(0, 1)
        stacked = torch.stack([value.flatten(0, 1) for value in maps])  # (T, M, h, w)
        normal = torch.stack([normalize(value, flat)[:, 0] for value in stacked])
        apart = (normal[:, None] - normal[None]).abs().sum(1) / max(1, len(maps) - 1)
        weight = torch.exp(-apart)
        combined = (weight * (stacked if space is Space.METRIC else normal)).sum(0) / weight.sum(0)
        return combined.where(flat, 0).view_as(maps[0]), valid

    return PseudoLabels(
        *mean([one.region for one in labels], [one.region_mask for one in labels]),
        *mean([one.patches for one in labels], [one.patch_mask for one in labels]),
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
