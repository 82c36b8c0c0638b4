"""CutMix in the loss: each part of a mixed view is compared with its own image's target, and by itself.

The loss of a mixed image is the mean of its two regions' losses, weighted by area (Depth Anything, section 3.2):

    L = |M| / HW  L_M  +  |1 - M| / HW  L_(1-M)

Every region is a row of its own with a mask: it is normalised by its own statistics, and no difference is taken across the
border.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from dadkit.data.cutmix import inside, partners

__all__ = ["Regions", "mixed_rows", "regions_of"]


@dataclass(frozen=True, eq=False)
class Regions:
    """The regions of a mixed batch of B images: R >= B rows, the kept part of every image, then what was pasted.

    Attributes:
        seen: whose view the region is in, R indices below B.
        source: whose pixels and target they are.
        mask: (R, 1, h, w) bool, the region.
        weight: (R,) float32, its share of the view; those of an image add up to 1.
    """

    seen: Tensor
    source: Tensor
    mask: Tensor
    weight: Tensor


def mixed_rows(boxes: Tensor | None, count: int) -> tuple[list[int], list[int]]:
    """Indices of the images into which nothing was pasted, and of the others."""
    if boxes is None:
        return list(range(count)), []
    filled = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).tolist()
    return [i for i in range(count) if not filled[i]], [i for i in range(count) if filled[i]]


def regions_of(boxes: Tensor, mixed: Sequence[int], size: tuple[int, int], device: torch.device) -> Regions:
    """The regions that integer ``boxes`` (B, 4) cut views of ``size`` = (height, width) into.

    Args:
        boxes: as in :class:`~dadkit.data.sample.Batch`, on the host.
        mixed: the images whose box has an area.
        size: of the views.
        device: where the answer is wanted.
    """
    pasted = inside(boxes, size)
    own, other = list(range(len(boxes))), partners(len(boxes))
    mask = torch.cat([~pasted, pasted[list(mixed)]])
    return Regions(
        seen=torch.tensor([*own, *mixed], device=device),
        source=torch.tensor([*own, *(other[i] for i in mixed)], device=device),
        mask=mask.to(device),
        weight=mask.float().mean((1, 2, 3)).to(device),
    )
