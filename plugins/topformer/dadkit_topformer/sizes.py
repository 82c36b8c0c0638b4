"""The sizes of TopFormer, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple

__all__ = ["SIZES", "STEM", "Residual", "Size"]

STEM = 16
"""Channels after the stem and after the first residual, both at stride 2."""


class Residual(NamedTuple):
    """One inverted residual of the token pyramid; ``level`` counts strides from 2: level 1 is stride 4."""

    kernel: int
    expansion: int
    stride: int
    level: int


# The published table. Tiny leaves out the last line.
_PYRAMID = (
    Residual(3, 1, 1, 0),
    Residual(3, 4, 2, 1),
    Residual(3, 3, 1, 1),
    Residual(5, 3, 2, 2),
    Residual(5, 3, 1, 2),
    Residual(3, 3, 2, 3),
    Residual(3, 3, 1, 3),
    Residual(5, 6, 2, 4),
    Residual(5, 6, 1, 4),
    Residual(3, 6, 1, 4),
)


@dataclass(frozen=True)
class Size:
    """One size of the family.

    Attributes:
        channels: token channels at strides 4, 8, 16, 32.
        heads: attention heads.
        injected: channels of the official injection module's answers.
        widths: default channels of our decoder at strides 4, 8, 16, 32.
        residuals: length of the token pyramid.
    """

    channels: tuple[int, int, int, int]
    heads: int
    injected: int
    widths: tuple[int, int, int, int]
    residuals: int = len(_PYRAMID)

    @property
    def width(self) -> int:
        """Channels of the transformer: the tokens of all strides side by side."""
        return sum(self.channels)

    @property
    def pyramid(self) -> tuple[Residual, ...]:
        """The residuals in order."""
        return _PYRAMID[: self.residuals]


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size((16, 32, 64, 96), 4, 128, (32, 32, 64, 96), residuals=9),
        "small": Size((24, 48, 96, 128), 6, 192, (64, 64, 128, 256)),
        "base": Size((32, 64, 128, 160), 8, 256, (64, 64, 128, 256)),
    }
)
