"""What networks declare about themselves, so that tools can ask without running them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from typing import Literal

from dadkit.interfaces.resizing import SizePolicy
from dadkit.spaces import Space

__all__ = ["IMAGENET_MEAN", "IMAGENET_STD", "ModelSpec", "NetworkSpec"]

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
_OWN_SIZE = SizePolicy()


@dataclass(frozen=True)
class NetworkSpec:
    """What every network that takes images declares. A :class:`FeatureEncoder` declares nothing else.

    Attributes:
        name: short architecture name, for instance ``"dinov2-small"``.
        size_multiple: the network takes heights and widths that are multiples of this.
        native: the network's own resizing policy.
        mean, std: RGB statistics of the network's input, applied to images in [0, 1].
        features: name of each feature tap -> its number of channels.
        license: SPDX identifier, or a text, of the licence of the *weights*.
    """

    name: str
    _: KW_ONLY
    size_multiple: int = 1
    native: SizePolicy = _OWN_SIZE
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    features: Mapping[str, int] = field(default_factory=dict)
    license: str = "unknown"

    def __post_init__(self) -> None:
        # A plain dict, since models are deep-copied and pickled with their spec, and a MappingProxyType can do neither.
        object.__setattr__(self, "features", dict(self.features))


@dataclass(frozen=True)
class ModelSpec(NetworkSpec):
    """What a depth model declares: what every network does, and what its answers mean.

    Attributes:
        space: the space of its answers.
        range: (low, high) of the answers, None = unbounded on that side.
        align_corners: how an answer of another size is brought to the input's: True puts corner pixels on corner pixels (as
            Depth Anything V2 does), False puts pixel areas on pixel areas.
        takes_camera: True if ``forward`` and ``predict`` do better, or answer metres at all, with ``cameras``.
        canonical_focal: focal length in pixels of the network's input for which its numbers are metres. In space ``metric``
            the base class then multiplies by (focal length) / (canonical one) and needs ``cameras``; in ``scale`` it does not.
            A metric model with one takes cameras, and no file of its network alone would hold metres: both follow from it.
        upsampling: the interpolation that does it: ``"bilinear"``, or ``"bicubic"`` (MiDaS); ``range`` cuts its overshoot.
        exportable: what files for other runtimes can be of it: ``"any size"``, ``"one size"``, or ``"no"``.
    """

    space: Space
    _: KW_ONLY
    range: tuple[float | None, float | None] = (None, None)
    align_corners: bool = False
    takes_camera: bool = False
    canonical_focal: float | None = None
    upsampling: Literal["bilinear", "bicubic"] = "bilinear"
    exportable: Literal["any size", "one size", "no"] = "any size"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.canonical_focal is not None and self.space is Space.METRIC:
            object.__setattr__(self, "takes_camera", True)
            object.__setattr__(self, "exportable", "no")
