"""From affine points to depth and camera: the shift, and the focal length, with which the points fall on their pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from dadkit_moge.network import places

__all__ = ["focal_and_shift"]

_SIDE = 64
_FEWEST = 2
_SHORTEST = 0.05  # a picture of 174 degrees; points of noise would turn the camera round
_SCAN = 256
_GOLDEN = (5**0.5 - 1) / 2
_STEPS = 60


def focal_and_shift(points: Tensor, mask: Tensor, focal: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Returns the camera and the missing shift of affine points.

    Minimises the sum over valid points of ``|f xy / (z + s) - uv|^2`` over ``s > -min z``, where ``uv`` are the places of the
    pixels in units of half the diagonal and ``f`` is given or the best for that ``s``. The official code starts a
    Levenberg-Marquardt search at 0, which may cross the pole at ``-min z``; here a scan finds the valley, and a golden section
    its ground.

    Args:
        points: (B, 3, H, W), right up to a shift of z.
        mask: (B, 1, H, W) bool, True = valid.
        focal: (B,) focal lengths in units of half the diagonal, NaN = unknown; None = all unknown.

    Returns:
        ``(focal, shift)``, (B,) float64 each. Fewer than two valid points: the given focal length or 1, and no shift.
    """
    height, width = points.shape[-2:]
    uv = places(height, width, width / height, points.double())[None].expand(len(points), -1, -1, -1)
    small = F.interpolate(torch.cat([points.double(), uv, mask.double()], 1), (_SIDE, _SIDE), mode="nearest").flatten(2)
    answers = [
        _one(one[:, one[5] > 0.5], None if focal is None or not focal[index].isfinite() else focal[index].double())
        for index, one in enumerate(small)
    ]
    return torch.stack([one for one, _ in answers]), torch.stack([other for _, other in answers])


def _one(sampled: Tensor, given: Tensor | None) -> tuple[Tensor, Tensor]:
    xy, z, uv = sampled[:2], sampled[2], sampled[3:5]
    one = z.new_ones(())
    if z.numel() < _FEWEST:
        return one if given is None else given, z.new_zeros(())

    def best(shifts: Tensor) -> tuple[Tensor, Tensor]:
        """(focal lengths, costs) of shifts (S,)."""
        projected = xy / (z + shifts[:, None])[:, None]  # (S, 2, M)
        if given is None:
            focal = (projected * uv).sum((1, 2)) / projected.square().sum((1, 2)).clamp(min=1e-300)
            focal = focal.clamp(min=_SHORTEST)
        else:
            focal = given.expand(len(shifts))
        return focal, (focal[:, None, None] * projected - uv).square().sum((1, 2))

    nearest = z.min()
    unit = (z - nearest).median().clamp(min=1e-6 * z.abs().max().clamp(min=1e-6))
    offsets = unit * torch.logspace(-4, 4, _SCAN, dtype=z.dtype, device=z.device)
    ground = int(best(offsets - nearest)[1].argmin())
    low, high = offsets[max(ground - 1, 0)].log(), offsets[min(ground + 1, _SCAN - 1)].log()
    for _ in range(_STEPS):
        inner = torch.stack([high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)])
        costs = best(inner.exp() - nearest)[1]
        low, high = (low, inner[1]) if costs[0] < costs[1] else (inner[0], high)
    shift = ((low + high) / 2).exp() - nearest
    focal, _ = best(shift[None])
    return focal[0], shift
