"""Trivial answers that any learnt model must beat: a vertical ramp and the training set's mean map.

Both ignore the image. Depth data has strong layout priors (ground below, sky above), so a score means little until one
knows what these two get under the same protocol.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.data.sample import Dataset, SampleError
from dadkit.interfaces import DepthModel, ModelSpec
from dadkit.spaces import Space, convert

__all__ = ["MeanMap", "VerticalRamp"]


class VerticalRamp(DepthModel):
    """Nearer towards the bottom: disparity that grows linearly from 0 at the top row to 1 at the bottom, or depth from 1 to 0.

    Args:
        space: disparity or depth; a ramp in metres would need a guess.
    """

    def __init__(self, space: Space = Space.DISPARITY) -> None:
        super().__init__()
        self.spec = ModelSpec(name="vertical-ramp", space=space, range=(0, 1), license="none")

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The ramp, for each image alike."""
        height, width = x.shape[-2:]
        ends = (0, 1) if self.spec.space is Space.DISPARITY else (1, 0)
        ramp = torch.linspace(*ends, height, device=x.device).view(1, 1, height, 1)
        return ramp.expand(x.shape[0], 1, height, width), {}


class MeanMap(DepthModel):
    """The mean of a labelled data set's maps, resized to each image.

    Args:
        mean: (1, 1, h, w) map.
        space: what its numbers are.
    """

    def __init__(self, mean: Tensor, space: Space = Space.DISPARITY) -> None:
        super().__init__()
        self.spec = ModelSpec(name="mean-map", space=space, license="none")
        self.mean: Tensor
        self.register_buffer("mean", mean)

    @classmethod
    def of(
        cls, dataset: Dataset, *, space: Space = Space.DISPARITY, limit: int = 256, size: tuple[int, int] = (64, 64)
    ) -> MeanMap:
        """Average the first ``limit`` readable samples in ``space``.

        Affine-invariant maps are standardised first, so that no image outweighs the others. Sky counts as disparity 0; in depth
        it takes no part, nor do unknown pixels anywhere. Where no sample knows a pixel, the mean is 0.

        Raises:
            dadkit.spaces.SpaceError: the labels do not convert to ``space``.
        """
        total, count = torch.zeros(1, 1, *size, dtype=torch.float64), torch.zeros(1, 1, *size, dtype=torch.float64)
        for index in range(min(limit, len(dataset))):
            try:
                sample = dataset[index]
            except SampleError:
                continue
            if sample.depth is None or sample.space is None:
                continue
            values, valid = convert(sample.depth, sample.valid, sample.space, space)
            values = F.interpolate(values[None].double(), size, mode="nearest-exact")
            known = torch.isfinite(values)
            if valid is not None:
                known &= F.interpolate(valid[None].double(), size, mode="nearest-exact") > 0
            if int(known.sum()) < 2:
                continue
            if space is not Space.METRIC:
                values = (values - values[known].mean()) / values[known].std().clamp_min(1e-12)
            total += torch.where(known, values, 0.0)
            count += known
        return cls((total / count.clamp_min(1)).float(), space)

    def estimate(self, x: Tensor) -> tuple[Tensor, Mapping[str, Tensor]]:
        """The mean map at the images' size."""
        resized = F.interpolate(self.mean, x.shape[-2:], mode="bilinear", align_corners=False)
        return resized.expand(x.shape[0], -1, -1, -1), {}
