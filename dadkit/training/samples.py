"""Sample grids: image with the patches' boxes | teacher | student | difference, the same images every time.

The first images of the stage are shown, beside the primary teacher's map or true depth and the student's map. Where the student
sees perturbed images, the clean ones are beside them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from dadkit import pictures
from dadkit.data.perturbations import paste
from dadkit.files import atomic_path
from dadkit.interfaces import Student
from dadkit.losses import median_mad
from dadkit.spaces import Space
from dadkit.training.batches import Iteration, micro_batches
from dadkit.training.step import DistillationStep, mixed_rows

__all__ = ["difference", "draw_samples", "match_scale", "sample_grid", "write_picture"]

SHOWN = 4
SMALLEST = 160
"""Views narrower than this many pixels are shown enlarged."""


@torch.no_grad()
def draw_samples(step: DistillationStep, model: Student, data: Iteration, device: torch.device) -> NDArray[np.uint8] | None:
    """Returns the sample grid of ``model`` in eval mode; None if the stage has neither teachers nor true depth to compare it
    with.
    """
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
        (target, mask), source = step.truth(first), "truth"
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


def sample_grid(
    images: Tensor,
    boxes: Sequence[Tensor] | Tensor,
    target: Tensor,
    mask: Tensor,
    student: Tensor,
    *,
    space: Space,
    source: str,
    clean: Tensor | None = None,
) -> NDArray[np.uint8]:
    """Returns a picture with one row per image.

    The student's map is brought to the target's median and MAD (except in metric space) and coloured with the target's limits,
    so that the two can be compared by eye.

    Args:
        images: (B, 3, v, v) uint8 views.
        boxes: what is drawn into each view, (N, 4) in its pixels: patches, or the border of a pasted rectangle.
        target, mask: (B, 1, v, v) the teacher's map (or true depth) and where it is valid.
        student: (B, 1, v, v) the student's map.
        space: of both maps.
        source: the title of the target's column.
        clean: (B, 3, v, v) uint8, what the target belongs to, where ``images`` are perturbed; shown in a column of its own.
    """
    zoom = max(1, -(-SMALLEST // images.shape[-1]))
    matched = student if space is Space.METRIC else match_scale(student, target, mask)
    rows = []
    unperturbed = [None] * len(images) if clean is None else clean.cpu()
    columns = zip(images.cpu(), unperturbed, boxes, target.cpu(), mask.cpu(), matched.cpu(), strict=True)
    for image, view, box, t, m, s in columns:
        limits = pictures.percentile_limits(pictures.nearness(t, space), m)
        cells = [
            pictures.to_uint8(image),
            *([] if view is None else [pictures.to_uint8(view)]),
            pictures.colorize(t, space=space, valid=m, limits=limits),
            pictures.colorize(s, space=space, limits=limits),
            difference(s, t, m),
        ]
        cells = [cell.repeat(zoom, axis=0).repeat(zoom, axis=1) for cell in cells]
        rows.append([pictures.draw_boxes(cells[0], box.cpu() * zoom), *cells[1:]])
    seen = ["image"] if clean is None else ["student's view", "clean"]
    return pictures.grid(rows, titles=[*seen, source, "student", "|difference|"])


def match_scale(student: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """(B, 1, H, W): the student's maps with the target's median and MAD over ``mask``; constant maps get the median alone."""
    own_median, own_mad = (value.view(-1, 1, 1, 1) for value in median_mad(student, mask))
    median, mad = (value.view(-1, 1, 1, 1) for value in median_mad(target.masked_fill(~mask, 0.0), mask))
    return torch.where(own_mad > 0, (student - own_median) / own_mad.clamp_min(1e-30), 0.0) * mad + median


def difference(student: Tensor, target: Tensor, mask: Tensor) -> NDArray[np.uint8]:
    """|student - target| from black to bright, full scale at 0.3 of the target's range between its percentiles 2 and 98."""
    kept = target[mask]
    low, high = np.percentile(kept.numpy(), [2, 98]) if kept.numel() else (0.0, 1.0)
    span = max(float(high - low), 1e-12)
    unit = ((student - target).abs() / (0.3 * span)).clamp(0, 1)
    shade = (unit[0].nan_to_num(1.0).numpy() * 255).round().astype(np.uint8)
    picture = np.repeat(shade[..., None], 3, axis=2)
    picture[~mask[0].numpy()] = pictures.INVALID
    return picture


def write_picture(path: Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(path) as temporary:
        Image.fromarray(picture).save(temporary, quality=90)
