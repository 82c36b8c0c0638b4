"""Image/depth pairs as a local plugin: `dadkit train starter.yaml --plugin augmented.py` trains on stored teacher maps.

Pseudo-labels that were computed once are pairs like any other, but the student must not see the clean pixels that the teacher
saw. `local/augmented` therefore yields each pair several times, each time with other colours, blur and another crop.
"""

from __future__ import annotations

import math
from typing import Any

import torch

import dadkit


@dadkit.hookimpl
def register_datasets(register: Any) -> None:
    """Name the one dataset."""
    register("augmented", "augmented:Augmented", api=1, summary="stored pairs with random crops and colours")


class Augmented:
    """Pairs, each of them `copies` times: a crop of random size and aspect ratio, then strong colours.

    Sample i shows pair ``i % n``; everything random in it follows from i, so a run that is resumed sees the same.

    Args:
        copies: how often an epoch shows each pair.
        area: least share of the image that a crop covers.
        aspect: the crop's width / height is drawn log-uniformly from this interval, as far as the image allows.
        color: probability of changed colours.
        pairs: options of the dataset `pairs`.
    """

    def __init__(
        self,
        copies: int = 16,
        area: float = 0.35,
        aspect: tuple[float, float] = (1.0, 1.8),
        color: float = 0.8,
        **pairs: Any,
    ) -> None:
        from dadkit.data import DepthPairs
        from dadkit.data.perturbations import ColorJitter, GaussianBlur, Strong

        self.pairs = DepthPairs(**pairs)
        self.copies, self.area, self.aspect = copies, area, aspect
        self.strong = Strong(ColorJitter(color, 0.4, 0.4, 0.4, 0.1), GaussianBlur(0.3, (0.1, 1.5)))

    def __len__(self) -> int:
        return self.copies * len(self.pairs)

    def key(self, index: int) -> str:
        """The pair's key, and which copy of it."""
        return f"{self.pairs.key(index % len(self.pairs))}#{index // len(self.pairs)}"

    def __getitem__(self, index: int) -> Any:
        from dataclasses import replace

        sample = self.pairs[index % len(self.pairs)]
        generator = torch.Generator().manual_seed(index)
        top, left, height, width = self._crop(*sample.image.shape[-2:], generator)
        rows, columns = slice(top, top + height), slice(left, left + width)
        return replace(
            sample,
            key=self.key(index),
            image=self.strong(sample.image[:, rows, columns].contiguous(), generator),
            depth=sample.depth[:, rows, columns],
            valid=sample.valid[:, rows, columns],
            intrinsics=None,
        )

    def _crop(self, height: int, width: int, generator: torch.Generator) -> tuple[int, int, int, int]:
        share, ratio, down, right = torch.rand(4, generator=generator).tolist()
        low, high = map(math.log, self.aspect)
        aspect = math.exp(low + (high - low) * ratio)
        pixels = height * width * (self.area + (1 - self.area) * share)
        rows = min(height, round(math.sqrt(pixels / aspect)))
        columns = min(width, round(rows * aspect))
        return int(down * (height - rows + 1)), int(right * (width - columns + 1)), rows, columns
