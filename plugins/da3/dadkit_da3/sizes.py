"""The models of Depth Anything 3, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dadkit_dinov2.sizes import PATCH
from dadkit_dinov2.sizes import SIZES as ENCODERS
from dadkit_dinov2.sizes import Size as EncoderSize

__all__ = ["CANONICAL_FOCAL", "MODELS", "PATCH", "Model"]

CANONICAL_FOCAL = 300.0
"""Focal length, in pixels of the network's input, for which metric-large's numbers are metres."""


@dataclass(frozen=True)
class Model:
    """One model of the family.

    Attributes:
        encoder: the size of DINOv2.
        taps: the blocks (counted from 0) whose outputs feed the head.
        features: channels of the head's fusion path.
        channels: channels of the four reassembled maps, fine to coarse.
        license: SPDX identifier of the licence of the released weights.
        rotary_from: the block from which an any-view model has rotary positions, normalised queries and keys, and its camera
            token; None for mono's kind, a plain DINOv2.
    """

    encoder: EncoderSize
    taps: tuple[int, int, int, int]
    features: int
    channels: tuple[int, int, int, int]
    license: str = "Apache-2.0"
    rotary_from: int | None = None

    @property
    def tapped_width(self) -> int:
        """Channels of a tapped token: of any-view models those of two."""
        return self.encoder.width * (1 if self.rotary_from is None else 2)


_LARGE = (256, 512, 1024, 1024)
_NC = "CC-BY-NC-4.0"
MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "tiny": Model(ENCODERS["tiny"], (1, 3, 4, 5), 48, (32, 48, 64, 96)),  # ours
        "mono-large": Model(ENCODERS["large"], (4, 11, 17, 23), 256, _LARGE),
        "metric-large": Model(ENCODERS["large"], (4, 11, 17, 23), 256, _LARGE),
        "small": Model(ENCODERS["small"], (5, 7, 9, 11), 64, (48, 96, 192, 384), rotary_from=4),
        "base": Model(ENCODERS["base"], (5, 7, 9, 11), 128, (96, 192, 384, 768), rotary_from=4),
        "large": Model(ENCODERS["large"], (11, 15, 19, 23), 256, _LARGE, _NC, rotary_from=8),
        "giant": Model(ENCODERS["giant"], (19, 27, 33, 39), 256, _LARGE, _NC, rotary_from=13),
    }
)
