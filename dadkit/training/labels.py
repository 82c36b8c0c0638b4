"""What the student learns from: pseudo-labels of the teachers that were drawn, and true depth.

Distill Any Depth (section 3.2) draws one teacher per iteration, and never averages. A draw (:data:`Drawn`) is

* an index: this teacher labels the whole batch;
* a tuple of indices: a teacher for each image;
* None: the average of all, for the ablation.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, tensor

from dadkit.data.sample import Batch
from dadkit.interfaces import ModelSpec, Prediction, Teacher
from dadkit.losses import normalize
from dadkit.spaces import Space, convert
from dadkit.training.scale import SourceScales
from dadkit.training.seeds import draw_index

__all__ = [
    "AVERAGE",
    "Drawn",
    "Labeller",
    "PseudoLabels",
    "StoredMaps",
    "average",
    "draw",
    "drawn_names",
    "drawn_scale",
    "gather",
    "label",
    "label_with",
    "labelled_target",
    "split_prediction",
    "to_float",
    "usable",
]

Drawn = int | tuple[int, ...] | None
AVERAGE = "average"


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


def label(
    teacher: Teacher,
    images: Tensor | None,
    patches: Tensor | None,
    space: Space,
    cameras: Tensor | None = None,
    patch_cameras: Tensor | None = None,
) -> PseudoLabels:
    """Let ``teacher`` label regions (B, 3, v, v), native-detail patches (B', N, 3, p, p), or both; uint8, clean pixels.

    Cameras are (B, 3, 3) in pixels of the regions and (B', N, 3, 3) in pixels of the patches, NaN = unknown; for teachers that
    take cameras.
    """
    views: list[tuple[Tensor, Tensor | None]] = [] if images is None else [(images, cameras)]
    if patches is not None:
        own = None if patch_cameras is None else patch_cameras.flatten(0, 1)
        views.append((patches.flatten(0, 1), own))  # (B' N, 3, p, p)
    if len(views) == 2 and views[0][0].shape[1:] == views[1][0].shape[1:]:
        known = [camera for _, camera in views if camera is not None]
        together = torch.cat(known) if len(known) == 2 else None
        answer = _ask(teacher, torch.cat([view for view, _ in views]), together)
        answers = split_prediction(answer, [len(view) for view, _ in views])
    else:
        answers = [_ask(teacher, view, camera) for view, camera in views]
    region, region_mask = usable(answers[0], space) if images is not None else (None, None)
    targets, masks = usable(answers[-1], space) if patches is not None else (None, None)
    return PseudoLabels(
        region,
        region_mask,
        None if targets is None or patches is None else targets.view(*patches.shape[:2], *targets.shape[-2:]),
        None if masks is None or patches is None else masks.view(*patches.shape[:2], *masks.shape[-2:]),
        answers[0].features if images is not None else {},
    )


def _ask(teacher: Teacher, views: Tensor, cameras: Tensor | None) -> Prediction:
    """Returns the teacher's answer to uint8 views, without the bookkeeping of autograd; copied, so that losses may save it."""
    with torch.inference_mode():
        given = (cameras,) if cameras is not None and teacher.spec.takes_camera else ()
        answer = teacher(to_float(views), *given)
    valid, sky = (None if mask is None else mask.clone() for mask in (answer.valid, answer.sky))
    features = {name: tap.clone() for name, tap in answer.features.items()}
    return Prediction(answer.depth.clone(), answer.space, valid, features, sky=sky)


def gather(parts: Sequence[tuple[PseudoLabels, Sequence[int], Sequence[int]]]) -> PseudoLabels:
    """Returns one set of labels out of several teachers'; each part says at which places its regions and its patches belong."""

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
    """Returns the mean of several teachers' labels, for ablations: Distill Any Depth (Table 4) shows that it fails.

    Every map is normalised by its median and deviation, and at each pixel teacher T weighs exp(-mean |N_T - N_T'|) over the
    other teachers T', so that a teacher that disagrees with the others counts less (for two teachers: the plain mean). The
    paper does not give its rule. The mean is one of normalised maps, except in metric space: metres need no common scale, and
    must not lose theirs. A pixel counts where all teachers' masks agree.
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
    """Splits a prediction on several stacks of images into one prediction per stack. Intrinsics, which no term uses, are
    dropped.
    """
    ends = list(itertools.accumulate(sizes))
    parts = [slice(end - size, end) for end, size in zip(ends, sizes, strict=True)]
    return [
        Prediction(
            prediction.depth[part],
            prediction.space,
            None if prediction.valid is None else prediction.valid[part],
            {name: tap[part] for name, tap in prediction.features.items()},
            sky=None if prediction.sky is None else prediction.sky[part],
        )
        for part in parts
    ]


class StoredMaps(Teacher):
    """Stands for teachers whose maps come with the images: they are looked up, and nobody is asked.

    Args:
        space: of the maps, as the stream gives them.
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        self.spec = ModelSpec(name="stored labels", space=space)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """Raises AssertionError: there is no network."""
        raise AssertionError("stored maps are looked up")


@dataclass(frozen=True)
class Labeller:
    """A teacher under the name that logs and errors use, with its relative probability of being drawn."""

    name: str
    model: Teacher
    probability: float = 1.0


def draw(teachers: Sequence[Labeller], selection: str, images: int, seed: int, *parts: str | int) -> Drawn:
    """Draws the teachers of an iteration, the same on every rank and after every resumption.

    Args:
        teachers: those that may be drawn.
        selection: ``"iteration"``, ``"sample"`` or ``"average"``, the stage's key of that name.
        images: unlabelled images of the iteration.
        seed: the run's seed.
        parts: the stage and the step.
    """
    weights = [teacher.probability for teacher in teachers]
    if selection == "average":
        return None
    if selection == "sample":
        return tuple(draw_index(weights, seed, *parts, "image", index) for index in range(images))
    return draw_index(weights, seed, *parts)


def drawn_names(teachers: Sequence[Labeller], drawn: Drawn) -> list[str]:
    """Returns the names of the drawn teachers, for logs: one, or one an image."""
    if drawn is None:
        return [AVERAGE]
    return [teachers[index].name for index in ((drawn,) if isinstance(drawn, int) else drawn)]


def label_with(
    teachers: Sequence[Labeller],
    drawn: Drawn,
    images: Tensor | None,
    patches: Tensor | None,
    rows: Sequence[int],
    space: Space,
    cameras: Tensor | None = None,
    patch_cameras: Tensor | None = None,
) -> PseudoLabels:
    """Returns the labels of the drawn teachers.

    Args:
        teachers: all of them.
        drawn: the draw.
        images: (B, 3, v, v) uint8 regions, or None.
        patches: (B, N, 3, p, p) uint8, or None.
        rows: the images whose patches are labelled.
        space: the student's.
        cameras, patch_cameras: (B, 3, 3) and (B, N, 3, 3) of the regions and the patches, NaN = unknown.
    """

    def ask(index: int, own: Sequence[int], own_rows: Sequence[int]) -> PseudoLabels:
        regions = None if images is None else images if len(own) == len(images) else images[list(own)]
        pieces = None if patches is None or not own_rows else patches
        if pieces is not None and len(own_rows) < len(pieces):
            pieces = pieces[list(own_rows)]
        views = None if cameras is None else cameras[list(own)]
        parts = None if patch_cameras is None else patch_cameras[list(own_rows)]
        return label(teachers[index].model, regions, pieces, space, views, parts)

    count = len(images) if images is not None else len(patches) if patches is not None else 0
    everyone = range(count)
    if isinstance(drawn, int):
        return ask(drawn, everyone, rows)
    if drawn is None:
        return average([ask(index, everyone, rows) for index in range(len(teachers))], space)
    if len(set(drawn)) == 1:
        return ask(drawn[0], everyone, rows)
    parts = []
    for index in sorted(set(drawn)):
        own = [i for i in everyone if drawn[i] == index]
        own_rows = [i for i in rows if drawn[i] == index]
        parts.append((ask(index, own, own_rows), own, own_rows))
    return gather(parts)


def drawn_scale(teachers: Sequence[Labeller], drawn: Drawn, scales: SourceScales) -> float | Tensor:
    """Returns what brings the labels to the student's magnitude: a number, or (B,) where each image has its own teacher."""
    if drawn is None:
        return scales.student  # averaged maps have a deviation of about 1; metric ones, which are not scaled, their own
    if isinstance(drawn, int):
        return scales.factor(teachers[drawn].name)
    return tensor([scales.factor(teachers[index].name) for index in drawn])


def to_float(images: Tensor) -> Tensor:
    """uint8 (…, 3, H, W) to float32 in [0, 1]."""
    return images.float() / 255


def usable(prediction: Prediction, space: Space) -> tuple[Tensor, Tensor]:
    """Returns a teacher's answer as target: ``(target, mask)`` in ``space``; the mask leaves out what is invalid or
    not finite.
    """
    converted = prediction.to_space(space)
    finite = converted.depth.isfinite()
    return converted.depth, finite if converted.valid is None else converted.valid & finite


def labelled_target(batch: Batch, space: Space, *, sky_depth: float | None = None) -> tuple[Tensor, Tensor]:
    """True depth as target: ``(target, mask)`` in ``space``, scaled to [0, 1] per map unless ``space`` is metric.

    Metric depth becomes disparity 1 / t (Depth Anything, section 3.1), in which infinitely far sky is a valid 0. A map of one
    value becomes 0.

    Args:
        batch: images with true depth.
        space: the student's.
        sky_depth: metres that infinitely far pixels count as in metric space; None leaves them out.
    """
    assert batch.depth is not None
    assert batch.space is not None
    target, valid = convert(batch.depth, batch.valid, batch.space, space)
    if sky_depth is not None and space is Space.METRIC:
        target = target.where(target != torch.inf, sky_depth)
    mask = target.isfinite() if valid is None else valid & target.isfinite()
    return (target if space is Space.METRIC else _unit_range(target, mask)), mask


def _unit_range(values: Tensor, mask: Tensor) -> Tensor:
    """(B, 1, H, W) scaled to [0, 1] per map over the masked pixels; the others become 0."""
    low = values.masked_fill(~mask, torch.inf).amin((1, 2, 3), keepdim=True)
    high = values.masked_fill(~mask, -torch.inf).amax((1, 2, 3), keepdim=True)
    span = high - low  # -inf without a valid pixel: the mask below leaves nothing of it
    return ((values - low) / span.where(span > 0, 1.0)).masked_fill(~mask, 0.0)
