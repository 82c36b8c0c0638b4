"""What a sample grid shows: the first images of the stage, the primary teacher's map or true depth, the student's map."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from dadkit.interfaces import Student
from dadkit.training.log.samples import sample_grid
from dadkit.training.micro import Iteration, micro_batches
from dadkit.training.pairs import labelled_target
from dadkit.training.step import DistillationStep

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
    was_training = model.training
    model.eval()
    student = step.predict(model, [first])[0].depth
    model.train(was_training)
    return sample_grid(first.student_images, first.boxes, target, mask, student, space=step.space, source=source)
