"""The whole image: the plain baseline without a random crop."""

from __future__ import annotations

import torch

from dadkit.interfaces import Contexts

__all__ = ["Whole"]


class Whole:
    """Student and teacher see the whole image, resized to one size; no patches.

    Batches are stacked, so all views share one size and an image of another shape is stretched: a 3:2 photograph becomes a
    square, as in the paper's row without crops (Distill Any Depth, Table 2, "neither"). Give ``[height, width]`` if your
    images share another aspect ratio. Nothing is random.

    Args:
        view_size: side of the square view, or (height, width), in pixels. 560: Distill Any Depth, section 4.1.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(self, view_size: int | tuple[int, int] = 560) -> None:
        height, width = (view_size, view_size) if isinstance(view_size, int) else view_size
        if height < 1 or width < 1:
            raise ValueError(f"view_size is one side or (height, width) in pixels, at least 1; got {view_size}")
        self.view_size = (height, width)

    def __call__(self, size: tuple[int, int], generator: torch.Generator) -> Contexts:
        """The contexts of an image of ``size`` = (height, width); ``generator`` is not used."""
        height, width = size
        region = torch.tensor([0, 0, width, height], dtype=torch.float64)
        return Contexts(region, self.view_size, torch.zeros(0, 4, dtype=torch.float64), self.view_size)
