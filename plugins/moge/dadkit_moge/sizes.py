"""The models of MoGe, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from dadkit_dinov2.sizes import PATCH
from dadkit_dinov2.sizes import SIZES as ENCODERS
from dadkit_dinov2.sizes import Size as EncoderSize

__all__ = ["MODELS", "PATCH", "Model"]


@dataclass(frozen=True)
class Model:
    """One model of the family.

    Attributes:
        encoder: the size of DINOv2.
        taps: the blocks (counted from 0) whose outputs are summed.
        widths: channels of the levels: of the patch grid and its doublings (MoGe 2: five), or of the projections and the
            upsampling blocks (MoGe 1: four).
        neck: residual blocks of the neck's levels; empty for MoGe 1.
        tokens: (fewest, most) patches that the model was trained with.
    """

    encoder: EncoderSize
    taps: tuple[int, ...]
    widths: tuple[int, ...]
    neck: tuple[int, ...]
    tokens: tuple[int, int]


_WIDTHS = (256, 128, 64, 32)
MODELS: Mapping[str, Model] = MappingProxyType(
    {
        "tiny": Model(ENCODERS["tiny"], (3, 5), (128, 32, 32, 16, 16), (0, 1, 1, 1, 0), (20, 80)),  # ours
        "v1-large": Model(ENCODERS["large"], (20, 21, 22, 23), (512, 256, 128, 64), (), (1200, 2500)),
        "v2-small": Model(ENCODERS["small"], (5, 11), (384, *_WIDTHS), (0, 1, 1, 1, 0), (1200, 3600)),
        "v2-base": Model(ENCODERS["base"], (5, 11), (768, *_WIDTHS), (0, 1, 1, 1, 0), (1200, 3600)),
        "v2-large": Model(ENCODERS["large"], (5, 11, 17, 23), (1024, *_WIDTHS), (0, 2, 2, 2, 0), (1200, 3600)),
    }
)
