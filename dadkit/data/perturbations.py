"""What changes the student's view while the teacher sees clean pixels (Depth Anything, section 3.2): colours, and CutMix.

Depth Anything names its perturbations (colour jittering, Gaussian blurring) and gives no strengths. The defaults here are those
of UniMatch, the same authors' work that its CutMix and its training on unlabelled images come from.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.data.sample import Batch

__all__ = ["ColorJitter", "CutMix", "GaussianBlur", "Strong", "inside", "mix", "part_bounds", "partners", "paste"]

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as Pillow's "L"


@dataclass(frozen=True)
class ColorJitter:
    """Brightness, contrast, saturation and hue, each changed by a random amount, in a random order.

    Attributes:
        probability: of changing an image at all.
        brightness, contrast, saturation: each factor is uniform in [1 - x, 1 + x], not below 0.
        hue: the shift is uniform in [-x, x] turns of the colour circle; at most 0.5.
    """

    probability: float = 0.8
    brightness: float = 0.5
    contrast: float = 0.5
    saturation: float = 0.5
    hue: float = 0.25

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(3, h, w) float in [0, 1] -> the same."""
        chance, *uniform = torch.rand(5, generator=generator).tolist()
        order = torch.randperm(4, generator=generator).tolist()
        if chance >= self.probability:
            return image
        strengths = (self.brightness, self.contrast, self.saturation, self.hue)
        amounts = [(2 * u - 1) * x for u, x in zip(uniform, strengths, strict=True)]
        for index in order:
            image = _change(image, index, amounts[index])
        return image


def _change(image: Tensor, index: int, amount: float) -> Tensor:
    """Applies one of the four changes; ``amount`` 0 changes nothing."""
    factor = max(0.0, 1 + amount)
    match index:
        case 0:
            changed = image * factor
        case 1:
            changed = torch.lerp(_gray(image).mean().expand_as(image), image, factor)
        case 2:
            changed = torch.lerp(_gray(image).expand_as(image), image, factor)
        case _:
            return turn_hue(image, amount)
    return changed.clamp(0, 1)


def _gray(image: Tensor) -> Tensor:
    """(1, h, w)"""
    return (image * image.new_tensor(_LUMA)[:, None, None]).sum(0, keepdim=True)


def turn_hue(image: Tensor, turns: float) -> Tensor:
    """(3, h, w) in [0, 1] with every hue moved by ``turns`` of the colour circle; value and saturation (HSV) stay."""
    value, low = image.amax(0), image.amin(0)
    chroma = value - low
    red, green, blue = image / chroma.where(chroma > 0, 1)
    # Sixths of a turn, in the branch of the largest channel; the others are overwritten.
    hue = torch.where(value == image[0], (green - blue) % 6, torch.where(value == image[1], blue - red + 2, red - green + 4))
    hue = hue + 6 * turns
    channels = [(hue + offset) % 6 for offset in (5, 3, 1)]
    return torch.stack([value - chroma * torch.minimum(k, 4 - k).clamp(0, 1) for k in channels])


@dataclass(frozen=True)
class GaussianBlur:
    """A Gaussian low-pass of random width, borders mirrored.

    Attributes:
        probability: of blurring an image at all.
        sigma: (least, largest) standard deviation in pixels of the view; uniform between.
    """

    probability: float = 0.5
    sigma: tuple[float, float] = (0.1, 2.0)

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(3, h, w) float -> the same."""
        chance, uniform = torch.rand(2, generator=generator).tolist()
        if chance >= self.probability:
            return image
        return blurred(image, self.sigma[0] + uniform * (self.sigma[1] - self.sigma[0]))


def blurred(image: Tensor, sigma: float) -> Tensor:
    """(C, h, w) convolved with a Gaussian of ``sigma`` pixels, cut off at 3 sigma or where the image ends."""
    for axis in (1, 2):
        reach = min(math.ceil(3 * sigma), image.shape[axis] - 1)
        if reach < 1:
            continue
        offsets = torch.arange(-reach, reach + 1, dtype=image.dtype)
        kernel = torch.exp(-offsets.square() / (2 * sigma**2))
        shape = (1, 1, -1, 1) if axis == 1 else (1, 1, 1, -1)
        padding = (0, 0, reach, reach) if axis == 1 else (reach, reach, 0, 0)
        padded = F.pad(image[:, None], padding, mode="reflect")
        image = F.conv2d(padded, (kernel / kernel.sum()).view(shape))[:, 0]
    return image


@dataclass(frozen=True)
class Strong:
    """Colour jitter, then blur: a :data:`dadkit.data.views.Perturb`. None leaves a part out."""

    color: ColorJitter | None = ColorJitter()
    blur: GaussianBlur | None = GaussianBlur()

    def __call__(self, image: Tensor, generator: torch.Generator) -> Tensor:
        """(3, h, w) uint8 -> the same, rounded."""
        changed = image.float() / 255
        for part in (self.color, self.blur):
            changed = changed if part is None else part(changed, generator)
        return (changed * 255).round().to(torch.uint8)


@dataclass(frozen=True)
class CutMix:
    """How rectangles of another image of the batch are drawn: ``u_ab = u_a * M + u_b * (1 - M)``.

    Images are mixed in pairs of neighbours, so that a batch cut between pairs keeps every image together with its partner:
    gradient accumulation and ranks see the same mixtures as one process with one batch. Which images are neighbours is as
    random as the order of the data.

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
    """Returns where ``count`` images are cut into ``parts`` without parting an image from its partner: parts + 1 indices."""
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
    """Returns the batch with rectangles pasted into ``student_images``; ``images``, which the teacher sees, stay as they are.

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
