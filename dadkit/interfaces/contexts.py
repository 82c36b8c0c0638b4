"""The interface of context samplers, and what they answer."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["ContextSampler", "Contexts"]


@dataclass(frozen=True, eq=False)
class Contexts:
    """Where student and teacher look in one image: boxes only, no pixels. Boxes are x0, y0, x1, y1; x1 and y1 exclusive.

    Attributes:
        region: (4,) float64 tensor in pixels of the image: what the student sees, once, resized to ``view_size``.
        view_size: (height, width) of the student's view and of the teacher's view of the same region.
        patches: (N, 4) float64 in pixels *relative to the region's corner* (0 <= x <= region width); N may be 0.
        patch_size: (height, width) at which the teacher sees each patch.
    """

    region: Tensor
    view_size: tuple[int, int]
    patches: Tensor
    patch_size: tuple[int, int]

    def boxes_in_view(self) -> Tensor:
        """(N, 4) float32: the patches in (fractional) pixels of the student's view, as ``local_global_loss`` takes them."""
        x0, y0, x1, y1 = self.region.tolist()
        scale_x, scale_y = self.view_size[1] / (x1 - x0), self.view_size[0] / (y1 - y0)
        return (self.patches * self.patches.new_tensor([scale_x, scale_y, scale_x, scale_y])).float()

    def around(self, part: tuple[int, int, int, int], size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """Returns the region at a random place where it holds ``part``; in it, where the region is smaller.

        Args:
            part: x0, y0, x1, y1 in pixels of the image.
            size: (height, width) of the image.
            generator: draws the place.
        """
        corner = []
        for axis, length in enumerate((size[1], size[0])):
            side = float(self.region[axis + 2] - self.region[axis])
            ends = sorted((part[axis], part[axis + 2] - side))
            low, high = max(ends[0], 0), min(ends[1], length - side)
            corner.append(low + int(torch.randint(0, int(high - low) + 1, (), generator=generator)))
        moved = self.region.new_tensor(corner * 2) - self.region[:2].repeat(2)
        return replace(self, region=self.region + moved)


@runtime_checkable
class ContextSampler(Protocol):
    """Chooses where student and teacher look. Pure: the same size and generator state give the same boxes."""

    def __call__(self, size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """Draw contexts for an image of ``size`` = (height, width) with randomness from ``generator`` (CPU) only.

        Every image of a run must get the same ``view_size``, ``patch_size`` and N, so that batches can be stacked.
        """
        ...
