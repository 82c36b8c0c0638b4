"""How DINOv2's position embedding is brought to another grid than its own 37 x 37."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

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
    scale = ((rows + 0.1) / grid.shape[-2], (columns + 0.1) / grid.shape[-1])
    return F.interpolate(grid, scale_factor=scale, mode="bicubic", align_corners=False)


def hf_rule(grid: Tensor, rows: int, columns: int) -> Tensor:
    """The rule of transformers: bicubic with the step n/N. Arguments as in :func:`official_rule`."""
    return F.interpolate(grid, (rows, columns), mode="bicubic", align_corners=False)


GRID_RULES: Mapping[str, GridRule] = MappingProxyType({"official": official_rule, "hf": hf_rule})
"""Option ``pos_embed`` -> the rule."""
