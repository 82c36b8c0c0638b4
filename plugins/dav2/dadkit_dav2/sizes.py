"""The sizes of Depth Anything, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

__all__ = ["PATCH", "SIZES", "Size"]

PATCH = 14
"""Side of a patch in pixels."""


@dataclass(frozen=True)
class Size:
    """One size of the family.

    Attributes:
        width: channels of a token.
        depth: number of transformer blocks.
        heads: attention heads.
        taps: the blocks (counted from 0) whose outputs feed the head in V2. V1 taps the last four.
        features: channels of the head's fusion path.
        channels: channels of the four reassembled maps, fine to coarse.
        license: SPDX identifier of the licence of the released weights.
        native: side in pixels that ``predict`` uses and that the position embedding is made for.
        swiglu: whether the blocks' MLP is a SwiGLU (giant) instead of GELU.
    """

    width: int
    depth: int
    heads: int
    taps: tuple[int, int, int, int]
    features: int
    channels: tuple[int, int, int, int]
    license: str
    native: int = 518
    swiglu: bool = False

    @property
    def grid(self) -> int:
        """Side, in patches, of the grid that the position embedding is made for."""
        return self.native // PATCH

    def tapped(self, version: str) -> tuple[int, ...]:
        """The tapped blocks of ``"v1"`` or ``"v2"``. Files of the two are alike, so only the user can tell."""
        return self.taps if version == "v2" else tuple(range(self.depth - 4, self.depth))


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        # Ours, for tests and demos: cheap on a CPU at about 126 pixels. A transformer without pre-training learns slowly,
        # though: where a small model is to be trained from random weights, TopFormer gets further in the same time.
        "tiny": Size(128, 6, 4, (1, 3, 4, 5), 48, (32, 48, 64, 96), "Apache-2.0", native=126),
        "small": Size(384, 12, 6, (2, 5, 8, 11), 64, (48, 96, 192, 384), "Apache-2.0"),
        "base": Size(768, 12, 12, (2, 5, 8, 11), 128, (96, 192, 384, 768), "CC-BY-NC-4.0"),
        "large": Size(1024, 24, 16, (4, 11, 17, 23), 256, (256, 512, 1024, 1024), "CC-BY-NC-4.0"),
        "giant": Size(1536, 40, 24, (9, 19, 29, 39), 384, (1536, 1536, 1536, 1536), "CC-BY-NC-4.0", swiglu=True),
    }
)
