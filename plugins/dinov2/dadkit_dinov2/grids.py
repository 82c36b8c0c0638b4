"""How DINOv2's position embedding is brought to another grid than its own 37 x 37."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["GRID_RULES", "GridRule", "hf_rule", "official_rule"]

GridRule = Callable[[Tensor, int, int], Tensor]


def official_rule(grid: Tensor, rows: int, columns: int) -> Tensor:
    """The rule of DINOv2 and Depth Anything: bicubic, sampled with the step (n + 0.1)/N of the scale factor, not n/N.

    The 0.1 was put there against rounding, but torch takes a given scale factor for the sampling positions too, so the grid
    is stretched a little. The released depth models were trained with it; n/N instead changes answers by 2 to 9 %.

    Args:
        grid: (1, C, N, N) position embedding.
        rows: wanted height in patches.
        columns: wanted width in patches.

    Returns:
        (1, C, rows, columns).
    """
    if not isinstance(rows, int):
        return _by_matrices(grid, rows, columns, 0.1)
    scale = ((rows + 0.1) / grid.shape[-2], (columns + 0.1) / grid.shape[-1])
    return F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)


def hf_rule(grid: Tensor, rows: int, columns: int) -> Tensor:
    """The rule of transformers: bicubic with the step n/N. Arguments as in :func:`official_rule`."""
    if not isinstance(rows, int):
        return _by_matrices(grid, rows, columns, 0.0)
    return F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)


def _by_matrices(grid: Tensor, rows: int, columns: int, offset: float) -> Tensor:
    """Both rules where the sizes are symbols, as under ``torch.export``: torch would write the example's scale into the graph.

    The grid's own size, at which no rule applies, cannot be a branch there either: there the offset becomes 0, and the
    interpolation with step 1 returns the grid itself.
    """
    height, width = grid.shape[-2:]
    row_count, column_count = (torch.full((), count, device=grid.device) for count in (rows, columns))
    own = ((row_count == height) & (column_count == width)).to(grid.dtype)
    offsets = offset * (1 - own)
    across = _cubic(height, rows, height / (row_count + offsets), grid)  # (rows, N)
    along = _cubic(width, columns, width / (column_count + offsets), grid)  # (columns, N)
    return across @ grid @ along.T


def _cubic(length: int, count: int, step: Tensor, like: Tensor) -> Tensor:
    """(count, length): the weights of torch's bicubic interpolation (Keys' kernel, a = -0.75) at ``count`` places."""
    a = -0.75
    place = (torch.arange(count, device=like.device, dtype=like.dtype) + 0.5) * step - 0.5
    left = torch.floor(place)
    entry = torch.arange(length, device=like.device, dtype=like.dtype)
    weights = like.new_zeros(1)
    for neighbour in (-1.0, 0.0, 1.0, 2.0):
        d = (place - left - neighbour).abs()
        weight = torch.where(d <= 1, ((a + 2) * d - (a + 3)) * d * d + 1, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
        at = (left + neighbour).clamp(0, length - 1)  # beyond the border the last entry goes on
        weights = weights + weight[:, None] * (entry == at[:, None]).to(like.dtype)
    return weights


GRID_RULES: Mapping[str, GridRule] = MappingProxyType({"official": official_rule, "hf": hf_rule})
"""Option ``pos_embed`` -> the rule."""
