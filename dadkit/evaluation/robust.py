"""Alignments that a few wild pixels cannot pull away: least absolute deviations, and consensus of random pairs."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from dadkit.evaluation.alignment import Affine, line, per_image

__all__ = ["consensus_line", "fit_l1", "fit_ransac", "l1_line"]


def fit_l1(source: Tensor, target: Tensor, valid: Tensor, *, iterations: int = 50) -> Affine:
    """Least absolute deviations ``min sum |scale * source + shift - target|``, by iteratively reweighted least squares.

    Deterministic: it starts from least squares and divides each pixel's weight by its residual, floored at 1e-9 of the truth's
    mean magnitude. Wild values of the *truth* hardly move it; wild values of the prediction are leverage and do
    (:func:`fit_ransac` stands both). Degenerate cases as in :func:`~dadkit.evaluation.alignment.fit_scale_shift`.

    Args:
        source: (B, H, W) predictions.
        target: (B, H, W) truth in the same space.
        valid: (B, H, W) bool.
        iterations: of reweighting.
    """
    return per_image(lambda x, y: l1_line(x, y, iterations=iterations), source, target, valid)


def l1_line(x: Tensor, y: Tensor, *, iterations: int = 50) -> tuple[float, float]:
    """:func:`fit_l1` on (n,) float64 values."""
    scale, shift = line(x, y)
    if x.numel() == 0 or scale == 0:
        return scale, shift
    floor = max(1e-9 * float(y.abs().mean()), torch.finfo(torch.float64).tiny)
    for _ in range(iterations):
        residual = (scale * x + shift - y).abs_()
        scale, shift = line(x, y, residual.clamp_min_(floor).reciprocal_().mul_(floor))
    return scale, shift


def fit_ransac(
    source: Tensor,
    target: Tensor,
    valid: Tensor,
    *,
    trials: int = 256,
    tolerance: float = 0.05,
    max_pixels: int = 4096,
    seed: int = 0,
) -> Affine:
    """Least squares over the largest set of pixels on which one line through two random pixels agrees.

    A pixel agrees if its residual is at most ``tolerance`` times the median of |truth|. The same random fractions are drawn for
    every image, so the answer depends on the image and the seed alone, not on its place in a batch.

    Args:
        source: (B, H, W) predictions.
        target: (B, H, W) truth in the same space.
        valid: (B, H, W) bool.
        trials: pairs tried.
        tolerance: largest residual that agrees, relative to the median of |truth|.
        max_pixels: pixels on which agreement is counted, taken evenly; the final fit uses all.
        seed: of the draws.

    Degenerate cases as in :func:`~dadkit.evaluation.alignment.fit_scale_shift`, which is the answer where no pair of pixels
    differs.
    """
    options = {"trials": trials, "tolerance": tolerance, "max_pixels": max_pixels, "seed": seed}
    return per_image(lambda x, y: consensus_line(x, y, **options), source, target, valid)  # type: ignore[arg-type]


def consensus_line(
    x: Tensor, y: Tensor, *, trials: int = 256, tolerance: float = 0.05, max_pixels: int = 4096, seed: int = 0
) -> tuple[float, float]:
    """:func:`fit_ransac` on (n,) float64 values."""
    if x.numel() < 2:
        return line(x, y)
    first, second = (_fractions(trials, seed).to(x.device) * x.numel()).long().unbind(1)
    run = x[second] - x[first]
    usable = run.abs() > 1e-12 * x.abs().max()
    if not usable.any():
        return line(x, y)
    scale = (y[second] - y[first])[usable] / run[usable]
    shift = y[first][usable] - scale * x[first][usable]
    limit = tolerance * y.abs().median()
    every = max(1, x.numel() // max_pixels)
    votes = ((scale[:, None] * x[::every] + shift[:, None] - y[::every]).abs() <= limit).sum(1)
    best = int(votes.argmax())
    agree = (scale[best] * x + shift[best] - y).abs() <= limit
    return line(x[agree], y[agree])


@lru_cache(maxsize=8)
def _fractions(trials: int, seed: int) -> Tensor:
    return torch.rand(trials, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
