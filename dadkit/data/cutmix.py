"""CutMix: a rectangle of the student's view comes from another image of the batch (Depth Anything, section 3.2).

    u_ab = u_a * M + u_b * (1 - M)

Images are mixed in pairs of neighbours, so that whoever cuts a batch between pairs keeps every image together with its partner:
gradient accumulation and ranks see the same mixtures as one process with one batch. Which images stand beside each other is as
random as the order of the data.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dadkit.data.sample import Batch

__all__ = ["CutMix", "inside", "mix", "part_bounds", "partners", "paste"]


@dataclass(frozen=True)
class CutMix:
    """How rectangles are drawn.

    Attributes:
        probability: of pasting into an image (Depth Anything: 0.5).
        area: (least, largest) share of the view; uniform between (UniMatch).
        ratio: (least, largest) height / width; uniform between (UniMatch).
    """

    probability: float = 0.5
    area: tuple[float, float] = (0.02, 0.4)
    ratio: tuple[float, float] = (0.3, 1 / 0.3)

    def box(self, size: tuple[int, int], generator: torch.Generator) -> tuple[int, int, int, int]:
        """x0, y0, x1, y1 in pixels of a view of ``size`` = (height, width); without area where nothing is pasted.

        A rectangle longer than the view is cut to the view's length; its place is uniform among those inside.
        """
        chance, area, ratio, across, down = torch.rand(5, generator=generator, dtype=torch.float64).tolist()
        if chance >= self.probability:
            return 0, 0, 0, 0
        pixels = (self.area[0] + area * (self.area[1] - self.area[0])) * size[0] * size[1]
        shape = self.ratio[0] + ratio * (self.ratio[1] - self.ratio[0])
        height = min(max(1, int(math.sqrt(pixels * shape))), size[0])
        width = min(max(1, int(math.sqrt(pixels / shape))), size[1])
        x0, y0 = int(across * (size[1] - width + 1)), int(down * (size[0] - height + 1))
        return x0, y0, x0 + width, y0 + height


def partners(count: int) -> list[int]:
    """Index of the image from which each of ``count`` images takes its rectangle: 1, 0, 3, 2, …; the last of an odd number
    takes it from its neighbour. One image alone is its own partner.
    """
    return [index ^ 1 if index ^ 1 < count else max(index - 1, 0) for index in range(count)]


def part_bounds(count: int, parts: int) -> list[int]:
    """Where ``count`` images are cut into ``parts`` without parting an image from its partner: parts + 1 indices."""
    pairs = max(1, count // 2) if count else 0
    bounds = [2 * (pairs * index // parts) for index in range(parts + 1)]
    return [count if bound >= 2 * pairs else bound for bound in bounds]


def inside(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, 1, h, w) bool, on the boxes' device: the pixels in integer ``boxes`` (B, 4) of x0, y0, x1, y1."""
    x0, y0, x1, y1 = (edge[:, None] for edge in boxes.unbind(-1))
    columns, rows = (torch.arange(length, device=boxes.device) for length in (size[1], size[0]))
    across, down = (columns >= x0) & (columns < x1), (rows >= y0) & (rows < y1)
    return (down[:, :, None] & across[:, None, :])[:, None]


def paste(values: Tensor, boxes: Tensor) -> Tensor:
    """(B, C, h, w) with the pixels in ``boxes`` taken from each image's partner; pictures, maps and masks alike."""
    other = values[torch.tensor(partners(len(values)), device=values.device)]
    return torch.where(inside(boxes, (values.shape[-2], values.shape[-1])).to(values.device), other, values)


def mix(batch: Batch, cutmix: CutMix, generators: Sequence[torch.Generator]) -> Batch:
    """The batch with rectangles pasted into ``student_images``; ``images``, which the teacher sees, stay as they are.

    Args:
        batch: an unmixed batch.
        cutmix: how rectangles are drawn.
        generators: one per image.
    """
    size = (batch.images.shape[-2], batch.images.shape[-1])
    boxes = torch.tensor([cutmix.box(size, generator) for generator in generators])
    if len(batch) == 1:
        boxes = torch.zeros_like(boxes)  # nobody to take a rectangle from
    return replace(batch, student_images=paste(batch.student_images, boxes), pasted=boxes)
