"""Several teachers: who labels which image of an iteration, and the labels put together.

Distill Any Depth (section 3.2) draws one teacher per iteration, and never averages. A draw (:data:`Drawn`) is

* an index: this teacher labels the whole batch;
* a tuple of indices: a teacher for each image;
* None: the average of all, for the ablation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, tensor

from dadkit.interfaces import Teacher
from dadkit.spaces import Space
from dadkit.training.labels import PseudoLabels, average, gather, label
from dadkit.training.scale import SourceScales
from dadkit.training.seeds import draw_index

__all__ = ["AVERAGE", "Drawn", "Labeller", "draw", "drawn_names", "drawn_scale", "label_with"]

Drawn = int | tuple[int, ...] | None
AVERAGE = "average"


@dataclass(frozen=True)
class Labeller:
    """A teacher under the name that logs and errors use, with its relative probability of being drawn."""

    name: str
    model: Teacher
    probability: float = 1.0


def draw(teachers: Sequence[Labeller], selection: str, images: int, seed: int, *parts: str | int) -> Drawn:
    """Who labels an iteration, the same on every rank and after every resumption.

    Args:
        teachers: who may be drawn.
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
    """The names of those who were drawn, for logs: one, or one an image."""
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
) -> PseudoLabels:
    """The labels of those who were drawn.

    Args:
        teachers: all of them.
        drawn: who labels.
        images: (B, 3, v, v) uint8 regions, or None.
        patches: (B, N, 3, p, p) uint8, or None.
        rows: the images whose patches are labelled.
        space: the student's.
    """

    def ask(index: int, own: Sequence[int], own_rows: Sequence[int]) -> PseudoLabels:
        regions = None if images is None else images if len(own) == len(images) else images[list(own)]
        pieces = None if patches is None or not own_rows else patches
        if pieces is not None and len(own_rows) < len(pieces):
            pieces = pieces[list(own_rows)]
        return label(teachers[index].model, regions, pieces, space)

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
    """What brings the labels to the student's magnitude: a number, or (B,) where each image has its own teacher."""
    if drawn is None:
        return scales.student  # averaged maps have a deviation of about 1; metric ones, which are not scaled, their own
    if isinstance(drawn, int):
        return scales.factor(teachers[drawn].name)
    return tensor([scales.factor(teachers[index].name) for index in drawn])
