"""Pairwise distillation: how alike the places of an image are to each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit.losses.base import Configured
from dadkit.losses.inputs import compute_dtype
from dadkit.ops.reference.reduction import over_images

__all__ = ["PairwiseLoss", "pairwise_loss"]


def pairwise_loss(
    student: Tensor, reference: Tensor, *, grid: int | None = 16, reduction: Literal["mean", "image"] = "mean"
) -> Tensor:
    """The student's places should be as alike to each other as the reference's (PWD; Liu et al. 2019).

        L = 1 / N^2 sum_ij ( cos(f_i, f_j) - cos(f'_i, f'_j) )^2

    over the N = ``grid`` x ``grid`` cells of the image; a cell's feature is the largest value of each channel in it. Widths may
    differ, since only similarities are compared.

    Args:
        student: (B, C, h, w), C > 1, floating point; gets the gradient.
        reference: (B, C', h', w'), C' > 1; gets no gradient.
        grid: cells per side (not from a paper; the public code of Liu et al. has 2). None takes every place as it is, and then
            both grids must agree.
        reduction: ``"mean"``: images' losses averaged over the batch; ``"image"``: (B,).

    Returns:
        float32 (float64 if an input is float64); the gradient has student's dtype.

    Invariances: to the length of the feature at any place (without pooling), to rotations of feature space, on either side.

    Degenerate cases: a place with the feature 0 has cosine 0 with all others.

    Raises:
        ValueError: one channel, where every cosine is 1 or -1; wrong shapes, dtypes or options.

    Example:
        >>> features = torch.rand(1, 8, 4, 4)
        >>> pairwise_loss(2 * features, features, grid=2).item() < 1e-6  # blind to the length of a feature
        True
    """
    for name, x in (("student", student), ("reference", reference)):
        if x.ndim != 4 or not x.is_floating_point():
            raise ValueError(f"{name} must be floating point (B, C, h, w), got {x.dtype} {tuple(x.shape)}")
        if x.shape[1] == 1:
            raise ValueError(
                f"pairwise_loss compares directions of features, and {name} has one channel, where every cosine is 1 or -1. "
                "Use it on features, not on a depth map."
            )
    if len(student) != len(reference):
        raise ValueError(f"student and reference must have one batch size, got {len(student)} and {len(reference)}")
    if grid is None and student.shape[2:] != reference.shape[2:]:
        raise ValueError(
            f"without pooling (grid=None) both grids must agree, got {tuple(student.shape[2:])} and "
            f"{tuple(reference.shape[2:])}"
        )
    check_pairwise(grid, reduction)
    dtype = compute_dtype(student, reference)
    own, other = _similarities(student.to(dtype), grid), _similarities(reference.detach().to(dtype), grid)
    image = (own - other).square().mean((1, 2))
    return over_images(image, reduction)


def check_pairwise(grid: int | None, reduction: str) -> None:
    """ValueError unless the options have legal values."""
    if grid is not None and grid < 1:
        raise ValueError(f"grid must be at least 1, got {grid}")
    if reduction not in ("mean", "image"):
        raise ValueError(f"reduction must be 'mean' or 'image', got {reduction!r}")


def _similarities(features: Tensor, grid: int | None) -> Tensor:
    """(B, N, N) cosines between all places."""
    if grid is not None:
        features = F.adaptive_max_pool2d(features, (min(grid, features.shape[2]), min(grid, features.shape[3])))
    places = features.flatten(2)
    squares = places.square().sum(1, keepdim=True)
    nonzero = squares != 0  # true for NaN, which must be seen
    unit = torch.where(nonzero, places, 0) * torch.where(nonzero, squares, 1).rsqrt()
    return unit.transpose(1, 2) @ unit


class PairwiseLoss(Configured):
    """:func:`dadkit.losses.pairwise_loss`: how alike the places of an image are to each other; features only.

    Example:
        >>> PairwiseLoss(grid=4)(torch.rand(2, 16, 8, 8), torch.rand(2, 32, 16, 16)).shape  # widths and grids may differ
        torch.Size([])
    """

    def __init__(self, *, grid: int | None = 16, reduction: Literal["mean", "image"] = "mean") -> None:
        check_pairwise(grid, reduction)
        super().__init__(grid=grid, reduction=reduction)

    def forward(self, student: Tensor, reference: Tensor) -> Tensor:
        """The loss of ``student`` (B, C, h, w) against ``reference`` (B, C', h', w')."""
        return pairwise_loss(student, reference, **self.options)
