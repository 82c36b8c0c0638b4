"""The sizes of Depth Anything, as data: a DINOv2 encoder and the DPT head that goes with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dadkit_dinov2.sizes import PATCH
from dadkit_dinov2.sizes import SIZES as ENCODERS
from dadkit_dinov2.sizes import Size as EncoderSize

__all__ = ["PATCH", "SIZES", "Size", "Variant"]


@dataclass(frozen=True)
class Size:
    """One size of the family.

    Attributes:
        encoder: the size of DINOv2.
        taps: the blocks (counted from 0) whose outputs feed the head in V2. V1 taps the last four.
        features: channels of the head's fusion path.
        channels: channels of the four reassembled maps, fine to coarse.
        license: SPDX identifier of the licence of the released weights.
    """

    encoder: EncoderSize
    taps: tuple[int, int, int, int]
    features: int
    channels: tuple[int, int, int, int]
    license: str

    @property
    def width(self) -> int:
        """Channels of a token."""
        return self.encoder.width

    @property
    def native(self) -> int:
        """Side in pixels that ``predict`` uses and that the position embedding is made for."""
        return self.encoder.native

    def tapped(self, version: str) -> tuple[int, ...]:
        """Returns the tapped blocks of ``"v1"`` or ``"v2"``. Files of the two are alike, so only the user can tell."""
        return self.taps if version == "v2" else tuple(range(self.encoder.depth - 4, self.encoder.depth))


SIZES: Mapping[str, Size] = MappingProxyType(
    {
        # Ours, for tests and demos: cheap on a CPU at about 126 pixels. A transformer without pre-training learns slowly,
        # though: where a small model is to be trained from random weights, TopFormer gets further in the same time.
        "tiny": Size(ENCODERS["tiny"], (1, 3, 4, 5), 48, (32, 48, 64, 96), "Apache-2.0"),
        "small": Size(ENCODERS["small"], (2, 5, 8, 11), 64, (48, 96, 192, 384), "Apache-2.0"),
        "base": Size(ENCODERS["base"], (2, 5, 8, 11), 128, (96, 192, 384, 768), "CC-BY-NC-4.0"),
        "large": Size(ENCODERS["large"], (4, 11, 17, 23), 256, (256, 512, 1024, 1024), "CC-BY-NC-4.0"),
        "giant": Size(ENCODERS["giant"], (9, 19, 29, 39), 384, (1536, 1536, 1536, 1536), "CC-BY-NC-4.0"),
    }
)


@dataclass(frozen=True)
class Variant:
    """One model of the family: a size and what no tensor of it tells.

    Attributes:
        size: a key of :data:`SIZES`.
        version: ``"v1"`` or ``"v2"``.
        pos_embed: ``"official"`` or ``"hf"``.
        max_depth: metres at which the answers end; None for a relative model.
        space: of a relative model: ``"disparity"``, as published, ``"scale"`` or ``"depth"``.
    """

    size: str
    version: str = "v2"
    pos_embed: str = "official"
    max_depth: float | None = None
    space: str = "disparity"

    @property
    def architecture(self) -> Size:
        """Its size, as data."""
        return SIZES[self.size]

    @property
    def name(self) -> str:
        """The registered name."""
        return f"dav2/{self.size}" + ("" if self.max_depth is None else "-metric")
