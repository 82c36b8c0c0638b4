"""At which size a network sees an image, and how the pixels get there."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["SizePolicy", "nearest_multiple", "resize"]


MAX_SQUARES = 8
"""Largest area that :class:`SizePolicy` makes of a strip, in squares of its ``size``."""


@dataclass(frozen=True)
class SizePolicy:
    """How ``predict`` resizes an image of any size before the network sees it.

    Attributes:
        size: target side in pixels; None keeps the image's own size (up to ``multiple``).
        mode: ``"lower_bound"``: the shorter side becomes at least ``size``, aspect ratio kept; ``"upper_bound"``: the longer
            side becomes at most ``size``, aspect ratio kept; ``"minimal"``: the side with the scale nearer to 1 becomes about
            ``size``, aspect ratio kept (MiDaS); ``"exact"``: a ``size x size`` square, aspect ratio ignored.
        multiple: both sides are rounded to a multiple of this.
        interpolation: ``"bicubic"`` (half-pixel, no antialiasing: OpenCV's cubic), ``"bilinear"``, or ``"area"`` (the mean over
            each new pixel's area: OpenCV's) to shrink and bicubic to enlarge.
        antialias: low-pass before shrinking. Official models are trained without.

    A strip, a panorama or a long screenshot, is shrunk further where the network would see more than :data:`MAX_SQUARES` times
    ``size x size`` pixels, which begins at an aspect ratio of 8.
    """

    size: int | None = None
    mode: Literal["lower_bound", "upper_bound", "minimal", "exact"] = "lower_bound"
    multiple: int = 1
    interpolation: Literal["bicubic", "bilinear", "area"] = "bicubic"
    antialias: bool = False

    def target(self, height: int, width: int) -> tuple[int, int]:
        """(height, width) at which the network runs for an image of ``height x width``."""
        if self.size is None:
            return nearest_multiple(height, self.multiple), nearest_multiple(width, self.multiple)
        if self.mode == "exact":
            side = nearest_multiple(self.size, self.multiple)
            return side, side
        scales = self.size / height, self.size / width
        if self.mode == "minimal":
            scale = min(scales, key=lambda scale: abs(1 - scale))
        else:
            scale = max(scales) if self.mode == "lower_bound" else min(scales)
        largest = self.size * math.sqrt(MAX_SQUARES / (height * width))
        if scale > largest:
            return self._bounded(height * largest), self._bounded(width * largest)
        return self._round(height * scale), self._round(width * scale)

    def _bounded(self, side: float) -> int:
        return max(self.multiple, math.floor(side / self.multiple) * self.multiple)

    def _round(self, side: float) -> int:
        assert self.size is not None
        rounded = round(side / self.multiple) * self.multiple
        if self.mode == "lower_bound" and rounded < self.size:
            rounded = math.ceil(side / self.multiple) * self.multiple
        if self.mode == "upper_bound" and rounded > self.size:
            rounded = math.floor(side / self.multiple) * self.multiple
        return max(rounded, self.multiple)


def nearest_multiple(side: int, multiple: int) -> int:
    """Returns the multiple of ``multiple`` nearest to ``side`` (ties up), at least one multiple: 560 -> 560 for 14, 576 for 32
    x 18.
    """
    return max(multiple, int(side / multiple + 0.5) * multiple)


def resize(images: Tensor, size: Sequence[int], policy: SizePolicy) -> Tensor:
    """``images`` (B, C, H, W) brought to ``size`` with the policy's interpolation; themselves where they have that size."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    mode = policy.interpolation
    if mode == "area":
        height, width = images.shape[-2:]
        if size[0] <= height and size[1] <= width:
            return _shares(height, size[0]).to(images) @ images @ _shares(width, size[1]).to(images).T
        mode = "bicubic"
    return F.interpolate(images, tuple(size), mode=mode, align_corners=False, antialias=policy.antialias)


def _shares(old: int, new: int) -> Tensor:
    """(new, old): the share that each old pixel has in each new one, by the length that they have in common."""
    edges = torch.arange(new + 1, dtype=torch.float64) * (old / new)
    pixels = torch.arange(old, dtype=torch.float64)
    common = torch.minimum(edges[1:, None], pixels + 1) - torch.maximum(edges[:-1, None], pixels)
    return common.clamp(min=0) * (new / old)
