"""What a scene is: a camera, solid primitives, materials, lights and a sky. Plain data; nothing here draws or renders.

World: metres, z up. Camera: x right, y down, z forward. Every solid is convex and is one of three kinds in a frame of its own:

* ``BOX``: ``|x| <= half[0], |y| <= half[1], |z| <= half[2]``
* ``ELLIPSOID``: ``(x/half[0])^2 + (y/half[1])^2 + (z/half[2])^2 <= 1``
* ``CONE``: a truncated cone along z: radius ``half[0]`` at the bottom, ``half[1]`` at the top, ``|z| <= half[2]``; equal radii
  make a cylinder.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

__all__ = ["Camera", "Color", "Kind", "Light", "Material", "Photo", "Primitives", "Scene", "Sky"]

Color = tuple[float, float, float]
Array = NDArray[np.float64]


class Kind(IntEnum):
    """The shape of a primitive."""

    BOX = 0
    ELLIPSOID = 1
    CONE = 2


@dataclass(frozen=True)
class Material:
    """What a surface looks like: two colours mixed by a texture tile, dirt, gloss.

    Attributes:
        low, high: linear RGB where the tile is 0 and where it is 1.
        tile: name of a tile in :mod:`dadkit_procedural.tiles`.
        period: metres that one tile covers along u and along v.
        grunge: strength of a second, coarser noise that breaks the repetition, 0 to 1.
        gloss: strength of the highlight, 0 to 1.
        emission: 1 for a lamp, whose colour is seen without light.
    """

    low: Color
    high: Color
    tile: str = "plaster"
    period: tuple[float, float] = (1.0, 1.0)
    grunge: float = 0.2
    gloss: float = 0.0
    emission: float = 0.0


@dataclass(frozen=True)
class Camera:
    """A pinhole camera.

    Attributes:
        position: (3,) in the world.
        rotation: (3, 3), world from camera: its columns are the camera's right, down and forward axes.
        focal: focal length as a fraction of the image's longer side.
        shift: principal point's offset from the image's centre, as a fraction of width and height.
    """

    position: Array
    rotation: Array
    focal: float
    shift: tuple[float, float] = (0.0, 0.0)

    @staticmethod
    def looking(
        position: tuple[float, float, float],
        yaw: float,
        pitch: float,
        roll: float,
        focal: float,
        shift: tuple[float, float] = (0.0, 0.0),
    ) -> Camera:
        """A camera at ``position`` that looks along ``yaw`` (0 = world +y, counterclockwise), up by ``pitch``; radians."""
        forward = np.array([-math.sin(yaw) * math.cos(pitch), math.cos(yaw) * math.cos(pitch), math.sin(pitch)])
        level = np.array([math.cos(yaw), math.sin(yaw), 0.0])
        down = np.cross(forward, level)
        right = level * math.cos(roll) + down * math.sin(roll)
        rotation = np.stack([right, np.cross(forward, right), forward], axis=1)
        return Camera(np.asarray(position, dtype=np.float64), rotation, focal, shift)

    def intrinsics(self, height: int, width: int) -> Array:
        """(3, 3) camera matrix in pixels; the centre of the first pixel lies at (0.5, 0.5)."""
        focal = self.focal * max(height, width)
        return np.array(
            [
                [focal, 0.0, width * (0.5 + self.shift[0])],
                [0.0, focal, height * (0.5 + self.shift[1])],
                [0.0, 0.0, 1.0],
            ]
        )


@dataclass(frozen=True)
class Light:
    """A light that casts shadows.

    Attributes:
        vector: the lamp's position, or for the sun the unit direction towards it.
        is_sun: whether the light is infinitely far.
        color: linear RGB; a lamp's is what arrives at a distance of one metre.
        softness: width of the penumbra per metre between occluder and shadow.
    """

    vector: tuple[float, float, float]
    is_sun: bool
    color: Color
    softness: float


@dataclass(frozen=True)
class Sky:
    """What surrounds the scene: the picture of the sky, ambient light from above and below, and haze.

    Attributes:
        zenith, horizon: linear RGB of the sky overhead and at the horizon; haze has the horizon's colour.
        clouds: how much of the sky is covered, 0 to 1.
        cloud_offset: where in the cloud texture this sky lies.
        above, below: ambient light that arrives from above and from below.
        haze: metres after which about 63 % of the light is haze; infinity for none.
    """

    zenith: Color
    horizon: Color
    clouds: float
    cloud_offset: tuple[float, float]
    above: Color
    below: Color
    haze: float = math.inf


@dataclass(frozen=True)
class Photo:
    """What the camera does to the light: exposure, white balance, vignette, noise.

    Attributes:
        exposure: factor on the automatic exposure.
        balance: gains of red, green and blue.
        vignette: loss of light in the corners, 0 to 1.
        noise: standard deviation in grey levels of 255.
        contrast: exponent on the displayed values, 1 = unchanged.
    """

    exposure: float
    balance: Color
    vignette: float
    noise: float
    contrast: float


@dataclass(frozen=True)
class Primitives:
    """K solids as arrays.

    Attributes:
        kind: (K,) int, see :class:`Kind`.
        centre: (K, 3) in the world.
        rotation: (K, 3, 3), world from local.
        half: (K, 3), see the module's text.
        material: (K,) index into ``Scene.materials``.
        offset: (K, 3) metres added to local coordinates before texturing, so that panels of one wall share one texture.
        casts: (K,) bool: whether it casts shadows.
    """

    kind: NDArray[np.intp]
    centre: Array
    rotation: Array
    half: Array
    material: NDArray[np.intp]
    offset: Array
    casts: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.kind)


@dataclass(frozen=True)
class Scene:
    """Everything that a picture needs, at any resolution. ``reach`` is how far ambient occlusion looks, in metres."""

    style: str
    camera: Camera
    primitives: Primitives
    materials: tuple[Material, ...]
    lights: tuple[Light, ...]
    sky: Sky
    photo: Photo
    reach: float
