"""A depth map as the picture that depth-conditioned diffusion models (ControlNets) take.

All common ones take the same: disparity in 8 bits, the same in three channels, brought to the whole range by each picture's
own minimum and maximum, **near is white** (the detectors of controlnet_aux, and the examples of diffusers).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from dadkit.interfaces import nearest_multiple
from dadkit.spaces import Space

__all__ = ["condition"]

_MULTIPLE = 16
"""Stable Diffusion takes sides that are multiples of 8, Flux of 16."""
_GREY = 128


def condition(depth: Tensor, *, space: Space, valid: Tensor | None = None) -> NDArray[np.uint8]:
    """The condition of one map.

    Metres become their inverse; of affine-invariant depth, whose inverse is not known, the sign is turned. Pixels that are not
    valid, not finite, or not in front of the camera, are as far as the farthest.

    Args:
        depth: (1, H, W) in ``space``.
        space: what the numbers mean.
        valid: (1, H, W) bool, True = valid; None: all.

    Returns:
        (h, w, 3) uint8; h and w are the multiples of 16 nearest to H and W. A constant map is mid grey.
    """
    near = {Space.METRIC: lambda x: 1 / x, Space.DEPTH: lambda x: -x, Space.DISPARITY: lambda x: x}[space](depth.double())
    usable = near.isfinite() if valid is None else near.isfinite() & valid
    if space is Space.METRIC:
        usable = usable & (depth > 0)
    height, width = (nearest_multiple(side, _MULTIPLE) for side in depth.shape[-2:])
    if not usable.any() or near[usable].max() == near[usable].min():
        return np.full((height, width, 3), _GREY, dtype=np.uint8)
    low, high = near[usable].min(), near[usable].max()
    part = ((near - low) / (high - low)).where(usable, 0)
    resized = F.interpolate(part[None], (height, width), mode="bilinear", align_corners=False, antialias=True)[0, 0]
    resized = (resized - resized.min()) / (resized.max() - resized.min())  # averaging has taken the ends in
    grey = (resized * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
    return np.repeat(grey[..., None], 3, axis=2)
