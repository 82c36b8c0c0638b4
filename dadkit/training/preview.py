"""What a sample grid shows: the first images of the stage, the primary teacher's map or true depth, the student's map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dadkit.data.perturbations import paste
from dadkit.interfaces import Student
from dadkit.training.labels import labelled_target
from dadkit.training.log.samples import sample_grid
from dadkit.training.micro import Iteration, micro_batches
from dadkit.training.step import DistillationStep, mixed_rows

__all__ = ["draw_samples"]

SHOWN = 4


@torch.no_grad()
def draw_samples(step: DistillationStep, model: Student, data: Iteration, device: torch.device) -> NDArray[np.uint8] | None:
    """The sample grid of ``model`` in eval mode; None if the stage has neither teachers nor true depth to compare it with."""
    batch, has_teacher = (data.unlabelled, True) if data.unlabelled is not None and step.teachers else (data.labelled, False)
    if batch is None:
        return None
    first = next(micro_batches(Iteration(batch, None), max(1, len(batch) // SHOWN))).unlabelled
    assert first is not None
    first = first.to(device)
    if has_teacher:
        seen = step.label(first, 0, regions=True, patches=False)
        target, mask, source = seen.region, seen.region_mask, step.teachers[0].name
    else:
        (target, mask), source = labelled_target(first, step.space), "truth"
    assert target is not None
    assert mask is not None
    boxes: Sequence[Tensor] | Tensor = first.boxes
    clean = first.images
    if first.pasted is not None:  # what each pixel of a mixed view is compared with, and the border of what was pasted
        target, mask = paste(target, first.pasted), paste(mask, first.pasted)
        clean = paste(clean, first.pasted)
        boxes = _drawn_boxes(first.boxes, first.pasted)
    was_training = model.training
    model.eval()
    student = step.predict(model, [first])[0].depth
    model.train(was_training)
    perturbed = clean if not torch.equal(clean, first.student_images) else None
    return sample_grid(first.student_images, boxes, target, mask, student, space=step.space, source=source, clean=perturbed)


def _drawn_boxes(boxes: Tensor, pasted: Tensor) -> list[Tensor]:
    """Per image the boxes to draw: its patches, or, since a mixed image's patches are not compared, the pasted rectangle."""
    mixed = set(mixed_rows(pasted, len(pasted))[1])
    return [pasted[i : i + 1].float() if i in mixed else own.cpu() for i, own in enumerate(boxes)]
