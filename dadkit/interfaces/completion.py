"""Depth completion: dense metres from a picture, a relative map and sparse metres (:class:`Hints`)."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass

import torch
from torch import Tensor, nn

from dadkit.interfaces.model import ParamGroup
from dadkit.interfaces.prediction import Prediction
from dadkit.spaces import Space

__all__ = [
    "Completer",
    "CompleterSpec",
    "Hints",
]


@dataclass(frozen=True, eq=False)
class Hints:
    """Depth in metres at some pixels of a picture: LiDAR, time of flight, structure from motion, a tape measure.

    Attributes:
        depth: (B, 1, H, W) float32 metres along the optical axis. Values outside ``valid`` are never read.
        valid: (B, 1, H, W) bool, True where a depth is known.
        sigma: (B, 1, H, W) relative standard deviation of each depth, or None if all are alike.

    Example:
        >>> hints = Hints.from_points(torch.tensor([[10.0, 5.0, 2.5]]), (480, 640))    # column 10, row 5, 2.5 m
        >>> int(hints.valid.sum()), float(hints.depth[0, 0, 5, 10])
        (1, 2.5)
    """

    depth: Tensor
    valid: Tensor
    sigma: Tensor | None = None

    def __post_init__(self) -> None:
        if self.depth.ndim != 4 or self.depth.shape[1] != 1:
            raise ValueError(f"Hints.depth must be (B, 1, H, W), got {tuple(self.depth.shape)}")
        if self.valid.shape != self.depth.shape or self.valid.dtype != torch.bool:
            raise ValueError(
                f"Hints.valid must be bool of shape {tuple(self.depth.shape)}, got {self.valid.dtype} {tuple(self.valid.shape)}"
            )
        if self.sigma is not None and self.sigma.shape != self.depth.shape:
            raise ValueError(f"Hints.sigma must have the shape {tuple(self.depth.shape)}, got {tuple(self.sigma.shape)}")

    @classmethod
    def from_points(cls, points: Tensor, size: tuple[int, int], *, see_through: float | None = None) -> Hints:
        """Hints of one picture from a list of points. Of several points in one pixel the nearest is kept.

        Args:
            points: (n, 3) column, row and metres, or (n, 4) with the relative standard deviation behind. Pixel centres have
                whole coordinates. Points outside the picture, and depths that are not finite or not above 0, are left out.
            size: (H, W) of the picture.
            see_through: leave out a point if another within 3 pixels is nearer by more than this many metres: the sensor looked
                past an edge that the camera sees. VPP4DC's filter uses 1.5.

        Returns:
            Hints of batch size 1.
        """
        if points.ndim != 2 or points.shape[1] not in (3, 4):
            raise ValueError(f"points must be (n, 3) or (n, 4): column, row, metres, sigma; got {tuple(points.shape)}")
        column, row = points[:, :2].double().round().unbind(1)
        z = points[:, 2].double()
        inside = (column >= 0) & (column < size[1]) & (row >= 0) & (row < size[0]) & (z > 0) & z.isfinite()
        order = z[inside].argsort(descending=True, stable=True)  # written from far to near, so that the nearest stays
        place = (row[inside].long() * size[1] + column[inside].long())[order]
        depth = torch.zeros(size[0] * size[1], dtype=torch.float32, device=points.device)
        winner = _last_of_each(place)
        depth[place[winner]] = z[inside][order][winner].float()
        sigma = None
        if points.shape[1] == 4:
            sigma = torch.zeros_like(depth)
            sigma[place[winner]] = points[:, 3][inside][order][winner].float()
        valid = torch.zeros_like(depth, dtype=torch.bool)
        valid[place] = True
        shape = (1, 1, *size)
        hints = cls(depth.view(shape), valid.view(shape), None if sigma is None else sigma.view(shape))
        return hints if see_through is None else hints.without_seen_through(see_through)

    @classmethod
    def from_cloud(
        cls,
        points: Tensor,
        intrinsics: Tensor,
        size: tuple[int, int],
        *,
        pose: Tensor | None = None,
        see_through: float | None = None,
    ) -> Hints:
        """Hints from points in space, as LiDAR and structure from motion give them. Of several in a pixel the nearest is kept.

        Args:
            points: (n, 3) metres. In the camera's frame x points right, y down and z forward.
            intrinsics: (3, 3) camera in pixels of the picture, with pixel centres at half integers (cx = W/2 is the middle).
            size: (H, W) of the picture.
            pose: (4, 4) or (3, 4) that brings the points into the camera's frame (world to camera); None = they are in it.
            see_through: see :meth:`from_points`.

        Returns:
            Hints of batch size 1. Points behind the camera or outside the picture are left out.

        Example:
            >>> camera = torch.tensor([[100.0, 0, 32], [0, 100, 24], [0, 0, 1]])
            >>> hints = Hints.from_cloud(torch.tensor([[0.0, 0, 4], [0, 0, 2]]), camera, (48, 64))
            >>> float(hints.depth[0, 0, 24, 32])                            # the nearer of two points on one ray
            2.0
        """
        if points.ndim != 2 or points.shape[1] != 3:
            raise ValueError(f"points must be (n, 3): x, y, z in metres; got {tuple(points.shape)}")
        points = points.double()
        if pose is not None:
            points = points @ pose[:3, :3].double().T + pose[:3, 3].double()
        points = points[points.isfinite().all(1) & (points[:, 2] > 0)]
        pixels = points @ intrinsics.double().T
        listed = torch.cat((pixels[:, :2] / pixels[:, 2:] - 0.5, points[:, 2:]), 1)
        return cls.from_points(listed, size, see_through=see_through)

    @classmethod
    def from_low_resolution(
        cls, depth: Tensor, valid: Tensor, size: tuple[int, int], *, see_through: float | None = None
    ) -> Hints:
        """Hints from a small map of the same view, such as a phone's: each small pixel becomes one point at its centre.

        Args:
            depth: (h, w) metres.
            valid: (h, w) bool.
            size: (H, W) of the picture.
            see_through: see :meth:`from_points`.
        """
        height, width = depth.shape
        row, column = valid.nonzero().double().unbind(1)
        x = (column + 0.5) * (size[1] / width) - 0.5
        y = (row + 0.5) * (size[0] / height) - 0.5
        return cls.from_points(torch.stack((x, y, depth[valid].double()), 1), size, see_through=see_through)

    def at_size(self, size: tuple[int, int]) -> Hints:
        """Returns the same points for the picture at another size. Points move by their coordinates; nothing is
        interpolated.
        """
        if tuple(self.depth.shape[-2:]) == tuple(size):
            return self
        parts = []
        for index in range(len(self.depth)):
            depth, valid = self.depth[index, 0], self.valid[index, 0]
            row, column = valid.nonzero().double().unbind(1)
            x = (column + 0.5) * (size[1] / valid.shape[1]) - 0.5
            y = (row + 0.5) * (size[0] / valid.shape[0]) - 0.5
            columns = [x, y, depth[valid].double()] + ([] if self.sigma is None else [self.sigma[index, 0][valid].double()])
            parts.append(Hints.from_points(torch.stack(columns, 1), size))
        sigma = None if self.sigma is None else torch.cat([part.sigma for part in parts if part.sigma is not None])
        return Hints(torch.cat([part.depth for part in parts]), torch.cat([part.valid for part in parts]), sigma)

    def without_seen_through(self, metres: float) -> Hints:
        """Hints without points farther than another within 3 pixels by more than ``metres``; see :meth:`from_points`."""
        far = torch.where(self.valid, self.depth, torch.full_like(self.depth, torch.inf))
        nearest = -torch.nn.functional.max_pool2d(-far, 7, stride=1, padding=3)
        return Hints(self.depth, self.valid & (self.depth <= nearest + metres), self.sigma)


def _last_of_each(place: Tensor) -> Tensor:
    """Index of the last occurrence of each value of ``place``."""
    values, which = torch.unique(place, return_inverse=True)
    order = torch.arange(len(place), device=place.device)
    return torch.zeros_like(values).scatter_reduce_(0, which, order, "amax", include_self=False)


@dataclass(frozen=True)
class CompleterSpec:
    """What a completer declares.

    Attributes:
        name: short name.
        needs_relative: it takes the map of a depth model; otherwise it is given None.
        min_hints: fewest points with which it answers.
        license: SPDX identifier, or a text, of the licence of the *weights*; ``"none"`` without weights.
    """

    name: str
    _: KW_ONLY
    needs_relative: bool = True
    min_hints: int = 1
    license: str = "none"

    @property
    def space(self) -> Space:
        """Metres."""
        return Space.METRIC


class Completer(nn.Module):
    """What turns sparse metres into dense ones. To write one, set ``self.spec`` and implement :meth:`complete`."""

    spec: CompleterSpec

    def param_groups(self) -> list[ParamGroup]:
        """Returns every trainable parameter, as what an optimiser calls the decoder; empty if nothing is learned."""
        params = [parameter for parameter in self.parameters() if parameter.requires_grad]
        return [ParamGroup(name="decoder", params=params)] if params else []

    def forward(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """Returns the same as :meth:`complete`."""
        return self.complete(images, hints, relative, intrinsics)

    @abstractmethod
    def complete(
        self, images: Tensor, hints: Hints, relative: Prediction | None = None, intrinsics: Tensor | None = None
    ) -> Prediction:
        """Dense metres.

        The answer follows the unit of the hints: ten times the hints' depth gives ten times the answer. Each image is
        answered by itself. Values of the hints outside their mask are never read.

        Args:
            images: (B, 3, H, W) RGB in [0, 1].
            hints: (B, 1, H, W) metres at some pixels.
            relative: a depth model's answer for the images, if ``spec.needs_relative``.
            intrinsics: (B, 3, 3) cameras in pixels of the images, NaN or None = unknown.

        Returns:
            A metric Prediction, positive and finite where valid. ``features`` may hold ``"support"``, (B, 1, H, W) float32
            distance in pixels to the nearest point that was kept, and ``"used"``, (B, 1, H, W) bool, the points kept.

        Raises:
            dadkit.errors.DadkitError: an image has fewer than ``spec.min_hints`` usable points.
        """
