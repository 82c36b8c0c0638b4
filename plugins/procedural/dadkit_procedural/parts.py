"""What scenes are built with: frames to place things at, and a collector of solids and materials."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from dadkit_procedural.scene import Kind, Material, Primitives

__all__ = ["Frame", "Parts"]


@dataclass(frozen=True)
class Frame:
    """A place to build something at: a point and a heading; local x is to the right of the heading y."""

    x: float = 0.0
    y: float = 0.0
    z: float = 0.0
    yaw: float = 0.0

    def at(self, x: float, y: float, z: float = 0.0, yaw: float = 0.0) -> Frame:
        """The frame at local (x, y, z), turned by ``yaw``."""
        wx, wy, wz = self.point(x, y, z)
        return Frame(wx, wy, wz, self.yaw + yaw)

    def point(self, x: float, y: float, z: float = 0.0) -> tuple[float, float, float]:
        """World coordinates of a local point."""
        c, s = math.cos(self.yaw), math.sin(self.yaw)
        return self.x + c * x - s * y, self.y + s * x + c * y, self.z + z


class Parts:
    """Collects primitives and materials while a scene is built."""

    def __init__(self) -> None:
        self.materials: list[Material] = []
        self._known: dict[Material, int] = {}
        self._rows: list[tuple[object, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def box(
        self,
        frame: Frame,
        centre: tuple[float, float, float],
        half: tuple[float, float, float],
        material: Material,
        *,
        yaw: float = 0.0,
        tilt: float = 0.0,
        casts: bool = True,
        shared: bool = False,
    ) -> None:
        """Add a box at ``centre`` of ``frame``, tilted about its x axis; ``shared``: texture from the frame's origin."""
        self._add(Kind.BOX, frame, centre, half, material, yaw, tilt, casts, shared)

    def ellipsoid(
        self,
        frame: Frame,
        centre: tuple[float, float, float],
        half: tuple[float, float, float],
        material: Material,
        *,
        yaw: float = 0.0,
        tilt: float = 0.0,
        casts: bool = True,
    ) -> None:
        """Add an ellipsoid, a sphere if the three ``half`` axes are equal."""
        self._add(Kind.ELLIPSOID, frame, centre, half, material, yaw, tilt, casts, False)

    def cone(
        self,
        frame: Frame,
        centre: tuple[float, float, float],
        radii: tuple[float, float],
        half_height: float,
        material: Material,
        *,
        yaw: float = 0.0,
        tilt: float = 0.0,
        casts: bool = True,
    ) -> None:
        """Add a truncated cone with ``radii`` (bottom, top); ``tilt`` of a quarter turn lays it along the frame's y axis."""
        self._add(Kind.CONE, frame, centre, (radii[0], radii[1], half_height), material, yaw, tilt, casts, False)

    def _add(
        self,
        kind: Kind,
        frame: Frame,
        centre: tuple[float, float, float],
        half: tuple[float, float, float],
        material: Material,
        yaw: float,
        tilt: float,
        casts: bool,
        shared: bool,
    ) -> None:
        index = self._known.setdefault(material, len(self.materials))
        if index == len(self.materials):
            self.materials.append(material)
        # An offset of its own for each solid, so that two boxes of one material do not show the same spot of the texture.
        offset = centre if shared else (0.37 * len(self._rows), 0.61 * len(self._rows), half[2])
        self._rows.append((kind, frame.point(*centre), _rotation(frame.yaw + yaw, tilt), half, index, offset, casts))

    def primitives(self) -> Primitives:
        """What was collected, as arrays."""
        kind, centre, rotation, half, material, offset, casts = zip(*self._rows, strict=True)
        return Primitives(
            np.array(kind, dtype=np.intp),
            np.array(centre, dtype=np.float64),
            np.array(rotation, dtype=np.float64).reshape(-1, 3, 3),
            np.array(half, dtype=np.float64),
            np.array(material, dtype=np.intp),
            np.array(offset, dtype=np.float64),
            np.array(casts, dtype=bool),
        )


def _rotation(yaw: float, tilt: float) -> tuple[float, ...]:
    """Rz(yaw) Rx(tilt), row by row."""
    c, s, ct, st = math.cos(yaw), math.sin(yaw), math.cos(tilt), math.sin(tilt)
    return (c, -s * ct, s * st, s, c * ct, -c * st, 0.0, st, ct)
