"""Feature taps of student and reference brought to one grid and one width, for the feature-alignment term."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.interfaces import FeatureEncoder, Prediction, Teacher

__all__ = ["align_features", "make_adapter", "read_features", "to_grid"]


def read_features(reference: FeatureEncoder | Teacher, images: Tensor) -> Mapping[str, Tensor]:
    """The feature taps of a frozen reference, whichever kind it is, for images (B, 3, H, W) in [0, 1]."""
    answer = reference(images)
    return answer.features if isinstance(answer, Prediction) else answer


def make_adapter(student_width: int, reference_width: int) -> nn.Linear | None:
    """A linear map on the student's side, only where the widths differ (Depth Anything aligns without one)."""
    return None if student_width == reference_width else nn.Linear(student_width, reference_width)


def align_features(
    student: Tensor, reference: Tensor, view: tuple[int, int], adapter: nn.Linear | None
) -> tuple[Tensor, Tensor]:
    """Both taps as tokens on the reference's grid.

    Args:
        student: tokens (B, N, C) or a map (B, C, h, w); gets gradients.
        reference: the same of any other grid and width.
        view: (height, width) of the image both saw, whose aspect ratio tells the grid of bare tokens.
        adapter: from :func:`make_adapter`.

    Returns:
        ``(student, reference)``, each (B, N', C') with the reference's N' and C', in float32 at least.
    """
    target = to_grid(_at_least_float32(reference.detach()), view)
    grid = to_grid(_at_least_float32(student), view)
    if grid.shape[-2:] != target.shape[-2:]:
        grid = F.interpolate(grid, target.shape[-2:], mode="bilinear", align_corners=False)
    tokens = grid.flatten(2).transpose(1, 2)  # (B, N', C)
    return tokens if adapter is None else adapter(tokens), target.flatten(2).transpose(1, 2)


def to_grid(features: Tensor, view: tuple[int, int]) -> Tensor:
    """A feature tap as a map (B, C, h, w). Tokens (B, N, C) get the grid of N cells whose aspect ratio is nearest the view's.

    Raises:
        ValueError: the tap is neither tokens nor a map, or its N fits no grid like the view (a class token among the patches).
    """
    if features.ndim == 4:
        return features
    if features.ndim != 3:
        raise ValueError(f"a feature tap is tokens (B, N, C) or a map (B, C, h, w), got {tuple(features.shape)}")
    count = features.shape[1]
    aspect = view[0] / view[1]
    rows = min((r for r in range(1, count + 1) if count % r == 0), key=lambda r: abs(math.log(r * r / count / aspect)))
    columns = count // rows
    # Patches are square, so the grid's aspect differs from the view's by rounding only.
    if not 0.5 < rows / columns / aspect < 2:
        raise ValueError(
            f"{count} tokens form no grid like a {view[0]} x {view[1]} view; a tap must hold patch tokens only, row by row, "
            "without a class token"
        )
    return features.transpose(1, 2).unflatten(2, (rows, columns))


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
