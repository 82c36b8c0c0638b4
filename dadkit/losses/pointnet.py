"""A frozen PointNet with random, seeded weights: what the geometric loss looks at point clouds with."""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["PointNet", "PointViews"]

_SHARED, _DENSE = (64, 128, 1024), (512, 256)
_NARROW = 0.1  # of the transforms' last layers, so that they stay near the identity


class PointViews(NamedTuple):
    """What PointNet makes of clouds of P points.

    Attributes:
        points: (B, 3, P), the clouds after the input transform.
        features: (B, 64, P), every point's features after the feature transform.
        input_matrix: (B, 3, 3).
        feature_matrix: (B, 64, 64).
    """

    points: Tensor
    features: Tensor
    input_matrix: Tensor
    feature_matrix: Tensor


class PointNet(nn.Module):
    """Input transform, a shared layer to 64 features, feature transform (Qi et al. 2017), without what follows them.

    It has buffers and no parameters: nothing in it is ever trained. Weights are He-normal from ``seed``, biases 0; batch
    normalisation with fresh statistics in eval mode is the identity, and left out. The buffers are in no state dict, since the
    seed brings them back.

    Example:
        >>> PointNet()(torch.rand(2, 3, 100)).features.shape
        torch.Size([2, 64, 100])
    """

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)

        def chain(name: str, widths: tuple[int, ...], last: float = 1.0) -> None:
            for index, (fan_in, fan_out) in enumerate(itertools.pairwise(widths)):
                gain = last if index == len(widths) - 2 else 1.0
                weight = torch.randn(fan_out, fan_in, generator=generator, device="cpu") * gain * math.sqrt(2 / fan_in)
                self.register_buffer(f"{name}_{index}", weight, persistent=False)

        chain("input_shared", (3, *_SHARED))
        chain("input_dense", (_SHARED[-1], *_DENSE, 9), _NARROW)
        chain("lift", (3, 64))
        chain("feature_shared", (64, *_SHARED))
        chain("feature_dense", (_SHARED[-1], *_DENSE, 64 * 64), _NARROW / 8)

    def forward(self, points: Tensor) -> PointViews:
        """(B, 3, P) -> its views. The order of the points does not matter."""
        input_matrix = self._transform("input", points, 3)
        moved = input_matrix @ points
        features = torch.einsum("oc,bcp->bop", self._weight("lift_0", points), moved).relu()
        feature_matrix = self._transform("feature", features, 64)
        return PointViews(moved, feature_matrix @ features, input_matrix, feature_matrix)

    def _transform(self, name: str, x: Tensor, width: int) -> Tensor:
        """(B, width, width): identity plus what the cloud as a whole suggests."""
        for index in range(len(_SHARED)):
            x = torch.einsum("oc,bcp->bop", self._weight(f"{name}_shared_{index}", x), x).relu()
        x = x.amax(2)
        for index in range(len(_DENSE) + 1):
            x = F.linear(x, self._weight(f"{name}_dense_{index}", x))
            x = x.relu() if index < len(_DENSE) else x
        return x.view(-1, width, width) + torch.eye(width, dtype=x.dtype, device=x.device)

    def _weight(self, name: str, like: Tensor) -> Tensor:
        return self.get_buffer(name).to(like.dtype)
