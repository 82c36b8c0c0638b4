"""Camera matrices that travel with pixels: through every resize, crop and flip.

A camera is (B, 3, 3) in pixels of the very picture it travels with, NaN where it is not known. Pixel centres are at half
integers, so that the middle of a picture of width W is W / 2 and a resize scales everything alike.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

__all__ = ["camera_from_fov", "crop_camera", "flip_camera", "focal_length", "known_cameras", "resize_camera"]


def camera_from_fov(fov: float, size: Sequence[int]) -> Tensor:
    """Returns the (3, 3) camera of a picture of ``size`` (height, width) with square pixels and its axis in the middle.

    Args:
        fov: horizontal field of view in degrees, between 0 and 180.
        size: (height, width) in pixels.

    Raises:
        ValueError: no angle of a pinhole camera.

    Example:
        >>> camera_from_fov(90, (100, 200))
        tensor([[100.,   0., 100.],
                [  0., 100.,  50.],
                [  0.,   0.,   1.]])
    """
    if not 0 < fov < 180:
        raise ValueError(f"a horizontal field of view is between 0 and 180 degrees, got {fov}")
    height, width = size
    focal = width / 2 / math.tan(math.radians(fov) / 2)
    return torch.tensor([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]])


def resize_camera(cameras: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Cameras (…, 3, 3) of pictures of ``old`` (height, width), for the same pictures at ``new``."""
    rows = cameras.new_tensor([new[1] / old[1], new[0] / old[0], 1.0])
    return cameras * rows[:, None]


def crop_camera(cameras: Tensor, corner: Sequence[float] | Tensor) -> Tensor:
    """Cameras (…, 3, 3) of crops whose upper left corner is at ``corner`` = (x, y) in pixels; (…, 2) for one each."""
    moved = cameras.clone()
    moved[..., :2, 2] -= torch.as_tensor(corner, dtype=cameras.dtype, device=cameras.device)
    return moved


def flip_camera(cameras: Tensor, width: int) -> Tensor:
    """Cameras (…, 3, 3) of the pictures, of this width, mirrored left to right."""
    moved = cameras.clone()
    moved[..., 0, 2] = width - cameras[..., 0, 2]
    moved[..., 0, 1] = -cameras[..., 0, 1]
    return moved


def focal_length(cameras: Tensor) -> Tensor:
    """(…): the mean of both focal lengths in pixels; NaN where the camera is not known."""
    return (cameras[..., 0, 0] + cameras[..., 1, 1]) / 2


def known_cameras(cameras: Tensor) -> Tensor:
    """(…): True where the camera is known."""
    return cameras.isfinite().all(-1).all(-1)
