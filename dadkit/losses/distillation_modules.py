"""Thin modules around the losses on values, distributions, similarities and point clouds.

What a training loop can ask such a loss, besides calling it:

* ``check_space(space)`` raises ValueError where the loss means nothing in that space of depth maps;
* ``label`` is the name under which logs show it, if it says more than the registered one.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from dadkit.losses.base import Configured
from dadkit.losses.distributions import Divergence, channel_wise_loss, check_divergence, check_tau, spatial_loss
from dadkit.losses.geometric import Compare, check_inverse, check_sampling, geometric_loss
from dadkit.losses.inputs import check_reduction, check_trim
from dadkit.losses.pairwise import check_pairwise, pairwise_loss
from dadkit.losses.pointnet import PointNet
from dadkit.losses.values import check_silog, mse_loss, silog_loss
from dadkit.ops.reference import Reduction

__all__ = ["ChannelWiseLoss", "GeometricLoss", "MSELoss", "PairwiseLoss", "SILogLoss", "SpatialLoss"]


class MSELoss(Configured):
    """:func:`dadkit.losses.mse_loss`: squared error, no normalisation."""

    def __init__(self, *, trim: float = 0.0, reduction: Reduction = "mean") -> None:
        check_trim(trim)
        check_reduction(reduction)
        super().__init__(trim=trim, reduction=reduction)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of ``pred`` against ``target`` where ``mask`` is True."""
        return mse_loss(pred, target, mask, **self.options)


class SILogLoss(Configured):
    """:func:`dadkit.losses.silog_loss`: the loss of metric fine-tuning. Logs call it ``silog-LAM``.

    Args:
        lam: how much of a common scale error is forgiven, in [0, 1].
        min_depth, max_depth: metres between which true depth counts; None is no limit.
        floor: least predicted depth that the logarithm is taken of.
        reduction: as in the functional.
    """

    def __init__(
        self,
        *,
        lam: float = 0.5,
        min_depth: float = 1e-3,
        max_depth: float | None = None,
        floor: float = 1e-6,
        reduction: Reduction = "mean",
    ) -> None:
        check_silog(lam, min_depth, max_depth, floor, reduction)
        super().__init__(lam=lam, min_depth=min_depth, max_depth=max_depth, floor=floor, reduction=reduction)

    @property
    def label(self) -> str:
        """``silog-0.5``."""
        return f"silog-{self.options['lam']:g}"

    def check_space(self, space: str) -> None:
        """ValueError unless maps are in metres: the logarithm of an affine value means nothing."""
        if space != "metric":
            raise ValueError(
                f"silog compares logarithms of metres, but the student answers in space '{space}'; give it the space 'metric'"
            )

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of ``pred`` against ``target`` where ``mask`` is True."""
        return silog_loss(pred, target, mask, **self.options)


class ChannelWiseLoss(Configured):
    """:func:`dadkit.losses.channel_wise_loss`: each channel as a distribution over pixels."""

    def __init__(self, *, tau: float = 1.0, divergence: Divergence = "kl", reduction: Reduction = "mean") -> None:
        check_tau(tau)
        check_reduction(reduction)
        check_divergence(divergence)
        super().__init__(tau=tau, divergence=divergence, reduction=reduction)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of ``pred`` against ``target``, (B, C, H, W) or (B, H, W), where ``mask`` is True."""
        return channel_wise_loss(pred, target, mask, **self.options)


class SpatialLoss(Configured):
    """:func:`dadkit.losses.spatial_loss`: each pixel's channels as a distribution; features only."""

    def __init__(self, *, tau: float = 1.0, reduction: Reduction = "mean") -> None:
        check_tau(tau)
        check_reduction(reduction)
        super().__init__(tau=tau, reduction=reduction)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        """The loss of ``pred`` against ``target``, (B, C, H, W) with C > 1, where ``mask`` is True."""
        return spatial_loss(pred, target, mask, **self.options)


class PairwiseLoss(Configured):
    """:func:`dadkit.losses.pairwise_loss`: how alike the places of an image are to each other; features only."""

    def __init__(self, *, grid: int | None = 16, reduction: Literal["mean", "image"] = "mean") -> None:
        check_pairwise(grid, reduction)
        super().__init__(grid=grid, reduction=reduction)

    def forward(self, student: Tensor, reference: Tensor) -> Tensor:
        """The loss of ``student`` (B, C, h, w) against ``reference`` (B, C', h', w')."""
        return pairwise_loss(student, reference, **self.options)


class GeometricLoss(Configured):
    """:func:`dadkit.losses.geometric_loss` with a frozen PointNet of its own.

    Args:
        seed: of PointNet's random weights (not from the paper).
        points: pixels per map (not from the paper).
        fov: assumed field of view of the image's longer side in degrees, where its camera is not known (not from the paper).
        near: least teacher's Z, in deviations of the map (not from the paper).
        compare: ``clouds``: transformed points and features; ``matrices``: the transforms themselves.
        assume_inverse: for disparity maps, the assumption ``{scale: a, shift: b}`` with Z = 1 / (a d + b).
        reduction: ``mean`` or ``image``.
    """

    def __init__(
        self,
        *,
        seed: int = 0,
        points: int = 1024,
        fov: float = 60.0,
        near: float = 1.0,
        compare: Compare = "clouds",
        assume_inverse: dict[str, float] | None = None,
        reduction: Literal["mean", "image"] = "mean",
    ) -> None:
        check_sampling(points, fov, near, compare)
        if assume_inverse is not None:
            check_inverse("disparity", assume_inverse)
        super().__init__(points=points, fov=fov, near=near, compare=compare, assume_inverse=assume_inverse, reduction=reduction)
        self.encoder = PointNet(seed)

    def check_space(self, space: str) -> None:
        """ValueError where maps of ``space`` have no depth and none is assumed."""
        check_inverse(space, self.options["assume_inverse"])

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        *,
        intrinsics: Tensor | None = None,
        frames: Tensor | None = None,
        space: str = "depth",
        generator: torch.Generator | None = None,
    ) -> Tensor:
        """The loss of ``pred`` against ``target``, both in ``space``, where ``mask`` is True; cameras as in the functional."""
        return geometric_loss(
            pred,
            target,
            intrinsics,
            mask,
            frames=frames,
            encoder=self.encoder,
            space=space,
            generator=generator,
            **self.options,
        )
