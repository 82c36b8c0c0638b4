"""The sizes of DINOv2, as data."""

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
        native: side in pixels of the square that the position embedding is made for.
        swiglu: whether the blocks' MLP is a SwiGLU (giant) instead of GELU.
    """

    width: int
    depth: int
    heads: int
    native: int = 518
    swiglu: bool = False

    @property
    def grid(self) -> int:
        """Side, in patches, of the grid that the position embedding is made for."""
        return self.native // PATCH


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        "tiny": Size(128, 6, 4, native=126),  # ours, for tests and demos: cheap on a CPU
        "small": Size(384, 12, 6),
        "base": Size(768, 12, 12),
        "large": Size(1024, 24, 16),
        "giant": Size(1536, 40, 24, swiglu=True),
    }
)
