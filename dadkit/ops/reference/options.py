"""The options and the cached statistics that all versions of the normalised losses share."""

from __future__ import annotations

from typing import Literal, NamedTuple

from torch import Tensor

__all__ = [
    "DEFAULT",
    "LEVELS",
    "WHOLE_MAP",
    "NormOptions",
    "Partition",
    "Reduction",
    "TargetStats",
    "Variant",
    "segment_count",
]

Partition = Literal["range", "quantile", "grid"]
Variant = Literal["dadkit", "hdn"]
Reduction = Literal["mean", "pixel", "image", "none"]

LEVELS = (1, 2, 4, 8)
"""Into how many parts a level may cut the depth range (or each side of the image, for ``grid``). Powers of two nest."""


class NormOptions(NamedTuple):
    """How maps are normalised: packed once by a functional or a module, and passed whole down to the operators.

    The fields are the keywords of ``dadkit.losses.hybrid_norm_loss``, which documents them.
    """

    segments: tuple[int, ...] = (1, 2, 4)
    partition: Partition = "range"
    variant: Variant = "dadkit"
    min_pixels: int = 16
    mad_floor: float = 0.01
    range_clip: tuple[float, float] = (0.0, 1.0)
    detach_median: bool = False


DEFAULT = NormOptions()
WHOLE_MAP = NormOptions(segments=(1,))


class TargetStats(NamedTuple):
    """What the losses need to know of a target beside its pixels; depends on the target, its mask, and on ``segments``,
    ``partition``, ``variant`` and ``range_clip`` only, so it can be computed once and kept beside a pseudo-label.

    U counts the segments of all levels, level by level in the order of ``segments``; K is the finest level.

    Attributes:
        edges: (B, K + 1) borders of the finest level, from the lowest to the highest; (B, 0) for ``grid``.
        count: (B, U) int64, valid pixels of each segment.
        median: (B, U) lower median of each segment, 0 where it is empty.
        mad: (B, U) mean absolute deviation about it (``hdn``: the sum divided by count + 1).
        global_mad: (B,) mean absolute deviation of all valid pixels about their median.
        flat: (B,) bool, the map is constant up to rounding (``hdn`` does not use it).

    Example:
        >>> from dadkit.losses import target_statistics
        >>> target_statistics(torch.rand(5, 1, 8, 8), segments=(1, 4)).median.shape
        torch.Size([5, 5])
    """

    edges: Tensor
    count: Tensor  # type: ignore[assignment]  # hides tuple.count
    median: Tensor
    mad: Tensor
    global_mad: Tensor
    flat: Tensor


def segment_count(level: int, partition: Partition) -> int:
    """Returns the number of segments of one level: ``level``, or ``level * level`` cells of a grid."""
    return level * level if partition == "grid" else level
