"""Sample grids: image with the patches' boxes | teacher | student | difference, the same images every time.

Where the student sees perturbed images, the clean ones stand beside them.
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
from dadkit.files import atomic_path
from dadkit.losses import median_mad
from dadkit.spaces import Space

__all__ = ["difference", "match_scale", "sample_grid", "write_picture"]

SMALLEST = 160
"""Views narrower than this many pixels are shown enlarged."""


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
    """A picture with one row per image.

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
