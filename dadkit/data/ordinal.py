"""Images whose truth is pairs of points: which of the two is nearer to the camera?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from dadkit.data.sample import Sample

__all__ = ["OrdinalSample", "swapped_at_random"]


@dataclass(frozen=True, eq=False)
class OrdinalSample(Sample):
    """One image with annotated pairs; it has no depth, so training takes it for an unlabelled image.

    Attributes:
        points: (N, 2, 2) float32, row and column of the two points of each pair, in pixels (the pixel that holds the point).
        nearer: (N,) int64, 0 or 1: which point is nearer.
    """

    points: Tensor | None = None
    nearer: Tensor | None = None


def swapped_at_random(nearer_first: np.ndarray, key: str, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs whose nearer point stands first, put in random order.

    Args:
        nearer_first: (N, 2, 2), row and column of the nearer and of the farther point.
        key: of the sample; the order depends on it and on the seed alone.
        seed: of the order.

    Returns:
        ``(points, nearer)`` as :class:`OrdinalSample` holds them. A model that always names one of the points is right in half
        of the pairs.
    """
    rng = np.random.default_rng([seed, *key.encode()])
    nearer = rng.integers(0, 2, len(nearer_first))
    points = np.where((nearer == 1)[:, None, None], nearer_first[:, ::-1], nearer_first)
    return torch.from_numpy(points.astype(np.float32)), torch.from_numpy(nearer)
