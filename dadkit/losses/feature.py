"""Losses on features: feature alignment, and pairwise distillation of how alike the places of an image are to each other."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.losses.base import Configured
from dadkit.losses.inputs import check_reduction, compute_dtype
from dadkit.ops.reference import Reduction
from dadkit.ops.reference.reduction import over_images, reduce_sums

__all__ = [
    "FeatureAlignmentLoss",
    "PairwiseLoss",
    "feature_alignment_loss",
    "pairwise_loss",
]


def feature_alignment_loss(
    student_tokens: Tensor, reference_tokens: Tensor, *, cos_threshold: float = 0.85, reduction: Reduction = "mean"
) -> Tensor:
    """Returns one minus the cosine similarity of the student's and a frozen encoder's tokens (Depth Anything, section 3.3).

    L = 1 - mean of cos(f_i, f'_i) over the kept tokens. A token is kept while cos <= ``cos_threshold``: what is similar enough
    is left alone, so that the student need not copy what helps semantics and harms depth.

    Args:
        student_tokens: (B, N, C), floating point; gets the gradient.
        reference_tokens: (B, N, C) of the same places; gets no gradient.
        cos_threshold: the margin, in [-1, 1]; 1 keeps all tokens.
        reduction: ``"mean"``: images' losses averaged over the batch; ``"pixel"``: mean over all kept tokens of the batch;
            ``"image"``: (B,); ``"none"``: (B, N), 0 for tokens that are not kept.

    Returns:
        float32 (float64 if an input is float64); the gradient has student_tokens' dtype.

    Invariances: to the length of any token, on both sides; the gradient is orthogonal to the student's token.

    Degenerate cases: an image without kept tokens gives 0; a zero token counts as cos = 0 and gets no gradient; a non-finite
    token makes its own image NaN.

    Raises:
        ValueError: the shapes differ or are not (B, N, C), a wrong dtype, an option out of range. Resample grids and adapt
            widths first (:class:`FeatureAlignmentLoss` has a linear adapter).

    Example:
        >>> tokens = torch.eye(4)[None]  # 4 tokens of width 4
        >>> feature_alignment_loss(tokens, 3 * tokens).item()  # similar enough: left alone
        0.0
        >>> feature_alignment_loss(tokens, tokens.flip(1)).item()
        1.0
    """
    if student_tokens.ndim != 3 or student_tokens.shape != reference_tokens.shape:
        raise ValueError(
            "student_tokens and reference_tokens must be (B, N, C) of one shape, got "
            f"{tuple(student_tokens.shape)} and {tuple(reference_tokens.shape)}"
        )
    if not (student_tokens.is_floating_point() and reference_tokens.is_floating_point()):
        raise ValueError(f"tokens must be floating point, got {student_tokens.dtype} and {reference_tokens.dtype}")
    check_threshold(cos_threshold)
    check_reduction(reduction)
    dtype = compute_dtype(student_tokens, reference_tokens)
    cos = (_directions(student_tokens.to(dtype)) * _directions(reference_tokens.detach().to(dtype))).sum(-1)
    kept = ~(cos.detach() > cos_threshold)  # NaN is kept: it must be seen
    loss = torch.where(kept, 1 - cos, 0)
    if reduction == "none":
        return loss
    return reduce_sums(loss.sum(1), kept.sum(1), reduction)


def check_threshold(cos_threshold: float) -> None:
    """ValueError unless ``cos_threshold`` is a cosine."""
    if not -1 <= cos_threshold <= 1:
        raise ValueError(f"cos_threshold must be in [-1, 1], got {cos_threshold}")


def _directions(tokens: Tensor) -> Tensor:
    """Returns tokens of length 1; zero tokens stay zero, without gradient."""
    squares = tokens.square().sum(-1, keepdim=True)
    nonzero = squares != 0  # true for NaN, which must be seen
    return torch.where(nonzero, tokens, 0) * torch.where(nonzero, squares, 1).rsqrt()


class FeatureAlignmentLoss(Configured):
    """:func:`dadkit.losses.feature_alignment_loss`, with a linear adapter on the student's side where the widths differ.

    Args:
        student_width: C of the student's tokens; None with ``reference_width`` None = the widths are equal.
        reference_width: C of the reference's tokens.
        cos_threshold: tokens above this similarity are left alone.
        reduction: as in the functional.

    The adapter, ``self.adapter``, is trained with the student and thrown away afterwards; it is None where the widths agree.

    Raises:
        ValueError: only one width is given, or one is under 1.

    Example:
        >>> loss = FeatureAlignmentLoss(student_width=32, reference_width=64)
        >>> loss(torch.rand(2, 49, 32), torch.rand(2, 49, 64)).shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        student_width: int | None = None,
        reference_width: int | None = None,
        cos_threshold: float = 0.85,
        reduction: Reduction = "mean",
    ) -> None:
        check_reduction(reduction)
        check_threshold(cos_threshold)
        super().__init__(cos_threshold=cos_threshold, reduction=reduction)
        self.adapter: nn.Linear | None = None
        if student_width != reference_width:
            if student_width is None or reference_width is None or min(student_width, reference_width) < 1:
                raise ValueError(f"give both widths, at least 1 each, or none; got {student_width} and {reference_width}")
            self.adapter = nn.Linear(student_width, reference_width)

    def forward(self, student_tokens: Tensor, reference_tokens: Tensor) -> Tensor:
        """Returns the loss of tokens (B, N, student_width) against (B, N, reference_width)."""
        if self.adapter is not None:
            student_tokens = self.adapter(student_tokens)
        return feature_alignment_loss(student_tokens, reference_tokens, **self.options)


def pairwise_loss(
    student: Tensor, reference: Tensor, *, grid: int | None = 16, reduction: Literal["mean", "image"] = "mean"
) -> Tensor:
    """Asks that the student's places are as alike to each other as the reference's (PWD; Liu et al. 2019).

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
        """Returns the loss of ``student`` (B, C, h, w) against ``reference`` (B, C', h', w')."""
        return pairwise_loss(student, reference, **self.options)
