"""From a depth map to points: metres, a camera, or a refusal that says what is missing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dadkit.data.images import exif_focal
from dadkit.errors import DadkitError
from dadkit.spaces import Space

__all__ = ["CloudError", "Lens", "check_cloud", "given_cameras", "metres", "unproject"]


class CloudError(DadkitError):
    """A map that holds no points in space: an unknown scale, shift or focal length."""

    exit_code = 2


@dataclass(frozen=True)
class Lens:
    """What the user knows of the camera, and of an affine map.

    Attributes:
        focal: focal length in pixels of the image.
        fov: horizontal field of view in degrees; instead of ``focal``.
        align: (a, b): metres are 1 / (a * value + b) for a disparity model, a * value + b for a depth model.
        beyond: metres from which on points are left out, such as sky that a model answers with its farthest depth.
    """

    focal: float | None = None
    fov: float | None = None
    align: tuple[float, float] | None = None
    beyond: float | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if self.focal is not None and self.fov is not None:
            raise CloudError("give the focal length or the field of view, not both")
        if self.focal is not None and not self.focal > 0:
            raise CloudError(f"the focal length must be positive pixels, got {self.focal}")
        if self.fov is not None and not 0 < self.fov < 180:
            raise CloudError(f"the field of view must be between 0 and 180 degrees, got {self.fov}")
        if self.beyond is not None and not self.beyond > 0:
            raise CloudError(f"points can be left out from a distance above 0 m on, got {self.beyond}")
        if self.align is not None and not all(map(math.isfinite, self.align)):
            raise CloudError(f"align takes two finite numbers, got {self.align[0]},{self.align[1]}")
        if self.align is not None and self.align[0] == 0:
            raise CloudError("align 0,b makes every pixel equally far; a must not be 0")

    @property
    def knows_focal(self) -> bool:
        """True if the focal length or the field of view is given."""
        return self.focal is not None or self.fov is not None

    def pixels(self, width: int) -> float | None:
        """Returns the focal length in pixels of an image of this width, or None if unknown."""
        if self.fov is not None:
            return width / 2 / math.tan(math.radians(self.fov) / 2)
        return self.focal


def given_cameras(lens: Lens | None, size: tuple[int, int], files: Sequence[Path | bytes | None]) -> Tensor | None:
    """Cameras (B, 3, 3) of pictures of one ``size`` (height, width): the lens first, then each picture's EXIF data.

    Returns:
        NaN where nothing is known; None if nothing is known of any.
    """
    stated = None if lens is None else lens.pixels(size[1])
    focals = [stated or (None if file is None else exif_focal(file, size)) for file in files]
    if not any(focals):
        return None
    height, width = size
    rows = [[[f, 0, width / 2], [0, f, height / 2], [0, 0, 1]] for f in (focal or math.nan for focal in focals)]
    return torch.tensor(rows, dtype=torch.float32)


def check_cloud(space: Space, lens: Lens) -> None:
    """Refuse point clouds of affine-invariant maps without a known scale and shift.

    Raises:
        CloudError: with the reason, and what to give.
    """
    if space is Space.METRIC or lens.align is not None:
        return
    formula = "1 / (a * value + b)" if space is Space.DISPARITY else "a * value + b"
    raise CloudError(
        f"no point cloud from space '{space}': its scale and shift are unknown, and every choice of them bends the scene into "
        f"another shape. Use a metric model, or give --align a,b with metres = {formula}"
    )


def metres(values: Tensor, space: Space, lens: Lens) -> NDArray[np.float64]:
    """(H, W) metres of a (1, H, W) map; NaN where there are none (value <= 0, not finite, beyond the limit)."""
    array = values[0].cpu().double().numpy()
    if space is not Space.METRIC:
        check_cloud(space, lens)
        assert lens.align is not None
        array = lens.align[0] * array + lens.align[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        usable = np.isfinite(array) & (array > 0)
        if space is Space.DISPARITY:
            array = 1 / array
    if lens.beyond is not None:
        usable &= array <= lens.beyond
    return np.where(usable, array, np.nan)


def unproject(depth: NDArray[np.float64], lens: Lens, intrinsics: Tensor | None = None) -> NDArray[np.float64]:
    """Points (H, W, 3) in metres: x to the right, y down, z forward.

    Args:
        depth: (H, W) metres along the optical axis.
        lens: focal length or field of view; the principal point is then the middle of the image.
        intrinsics: (3, 3), the model's own estimate, used where the lens says nothing.

    Raises:
        CloudError: neither is known.
    """
    height, width = depth.shape
    focal = lens.pixels(width)
    if focal is not None:
        fx = fy = focal
        cx, cy = width / 2, height / 2
    elif intrinsics is not None:
        k = intrinsics.double().cpu().numpy()
        fx, fy, cx, cy = k[0, 0], k[1, 1], k[0, 2], k[1, 2]
    else:
        raise CloudError(
            "no point cloud without a focal length: depth says how far a pixel is, not in which direction it looks. "
            "Give --focal PIXELS or --fov DEGREES (a phone's main camera has about 70)"
        )
    u, v = np.arange(width) + 0.5, np.arange(height) + 0.5  # pixel centres
    return np.stack([(u[None] - cx) / fx * depth, (v[:, None] - cy) / fy * depth, depth], axis=-1)
