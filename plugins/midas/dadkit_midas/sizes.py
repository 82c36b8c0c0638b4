"""The models of MiDaS, as data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from dadkit.interfaces import SizePolicy

__all__ = ["SIZES", "STRIDE", "Family", "Size"]

STRIDE = 32
"""All of them take heights and widths that are multiples of this."""

Family = Literal["vit", "hybrid", "beit", "swin", "swin2", "next-vit", "levit", "resnext", "lite"]
"""What the backbone is: it decides the names in files, and the class that is built."""

_GENERATION_ONE = ("resnext", "lite")


@dataclass(frozen=True)
class Size:
    """One model of the zoo.

    Attributes:
        official: its name in the official repository; None for ours.
        family: kind of backbone.
        native: side in pixels that ``predict`` aims at, and that the backbone is made for.
        mode: how an image gets there, see :class:`dadkit.interfaces.SizePolicy`.
        channels: channels of the maps that the decoder takes, fine to coarse.
        backbone: arguments of the backbone.
        widths: channels of the decoder's fusion path at each of them.
        hidden: channels before the last convolution.
    """

    official: str | None
    family: Family
    native: int
    mode: Literal["minimal", "upper_bound", "exact"]
    channels: tuple[int, ...]
    backbone: Mapping[str, Any] = field(default_factory=dict)
    widths: tuple[int, ...] = (256, 256, 256, 256)
    hidden: int = 32

    @property
    def generation_one(self) -> bool:
        """True if it is of the convolutional generation, v2.1: ImageNet's statistics, and another last upsampling."""
        return self.family in _GENERATION_ONE

    @property
    def reassembled(self) -> tuple[int, ...]:
        """Which of the maps are made of tokens: all for plain transformers, the last two for the hybrid, else none."""
        return {"vit": (0, 1, 2, 3), "beit": (0, 1, 2, 3), "hybrid": (2, 3)}.get(self.family, ())

    def policy(self, native: int | None = None) -> SizePolicy:
        """Returns the official resizing, to ``native`` instead of the model's own size if it is given."""
        from dadkit.interfaces import SizePolicy  # torch, which options do without

        return SizePolicy(native or self.native, self.mode, STRIDE, "bicubic")


def _stages(width: int) -> tuple[int, int, int, int]:
    return width, 2 * width, 4 * width, 8 * width


_L = {"width": 1024, "depth": 24, "heads": 16, "taps": (5, 11, 17, 23)}
_B = {"width": 768, "depth": 12, "heads": 12, "taps": (2, 5, 8, 11)}
_SWIN_L = {"width": 192, "depths": (2, 2, 18, 2), "heads": (6, 12, 24, 48)}
_SWIN_B = {"width": 128, "depths": (2, 2, 18, 2), "heads": (4, 8, 16, 32)}
_SWIN_T = {"width": 96, "depths": (2, 2, 6, 2), "heads": (3, 6, 12, 24)}
# Pre-trained with windows of 12 at 192 pixels, used with windows of 24 at 384.
_12_TO_24 = {"window": 24, "pretrained_windows": (12, 12, 12, 6)}
_RESNET = {"layers": (3, 4, 9), "stages": (256, 512, 1024)}

_BEIT_L_512 = {**_L, "grid": 32, "scale": 1e-5}
_BEIT_L_384 = {**_L, "grid": 24, "scale": 1e-5}
_BEIT_B_384 = {**_B, "grid": 24, "scale": 0.1}
_VIT_L = {**_L, "grid": 24}
_HYBRID = {**_B, "taps": (8, 11), "grid": 24, **_RESNET}
_LEVIT = {"widths": (384, 512, 768), "depths": (4, 4, 4), "heads": (6, 9, 12), "key": 32}
_RESNEXT = {"layers": (3, 4, 23, 3), "cardinality": 32, "base_width": 8}
_TINY = {"width": 128, "depth": 4, "heads": 4, "taps": (0, 1, 2, 3), "grid": 8}

_MAPS_L = (256, 512, 1024, 1024)
_MAPS_B = (96, 192, 384, 768)
_SMALL = (64, 128, 256, 512)

SIZES: Mapping[str, Size] = MappingProxyType(
    {
        # v3.1
        "dpt-beit-large-512": Size("dpt_beit_large_512", "beit", 512, "minimal", _MAPS_L, _BEIT_L_512),
        "dpt-beit-large-384": Size("dpt_beit_large_384", "beit", 384, "minimal", _MAPS_L, _BEIT_L_384),
        "dpt-beit-base-384": Size("dpt_beit_base_384", "beit", 384, "minimal", _MAPS_B, _BEIT_B_384),
        "dpt-swin2-large-384": Size("dpt_swin2_large_384", "swin2", 384, "exact", _stages(192), {**_SWIN_L, **_12_TO_24}),
        "dpt-swin2-base-384": Size("dpt_swin2_base_384", "swin2", 384, "exact", _stages(128), {**_SWIN_B, **_12_TO_24}),
        "dpt-swin2-tiny-256": Size("dpt_swin2_tiny_256", "swin2", 256, "exact", _stages(96), {**_SWIN_T, "window": 16}),
        "dpt-swin-large-384": Size("dpt_swin_large_384", "swin", 384, "exact", _stages(192), {**_SWIN_L, "window": 12}),
        "dpt-next-vit-large-384": Size(
            "dpt_next_vit_large_384", "next-vit", 384, "minimal", (96, 256, 512, 1024), {"depths": (3, 4, 30, 3)}
        ),
        "dpt-levit-224": Size("dpt_levit_224", "levit", 224, "exact", (384, 512, 768), _LEVIT, widths=(256,) * 3, hidden=8),
        # v3.0
        "dpt-large-384": Size("dpt_large_384", "vit", 384, "minimal", _MAPS_L, _VIT_L),
        "dpt-hybrid-384": Size("dpt_hybrid_384", "hybrid", 384, "minimal", (256, 512, 768, 768), _HYBRID),
        # v2.1
        "v21-384": Size("midas_v21_384", "resnext", 384, "upper_bound", (256, 512, 1024, 2048), _RESNEXT),
        "v21-small-256": Size(
            "midas_v21_small_256", "lite", 256, "upper_bound", (32, 48, 136, 384), {"name": "tf_efficientnet_lite3"}, _SMALL
        ),
        # Ours, for tests and demos: cheap on a CPU at about 128 pixels.
        "tiny": Size(None, "vit", 128, "minimal", (24, 32, 48, 64), _TINY, widths=(32,) * 4, hidden=16),
        "tiny-conv": Size(
            None, "lite", 128, "upper_bound", (24, 40, 112, 320), {"name": "tf_efficientnet_lite0"}, (16, 32, 64, 128), 16
        ),
    }
)
