"""What a style hands back, and what all styles need: free spots on a floor, skies, suns, camera angles."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from dadkit_procedural.palette import Palette, scaled
from dadkit_procedural.parts import Frame, Parts
from dadkit_procedural.scene import Camera, Color, Light, Sky

__all__ = ["Draft", "Floor", "aim", "daylight", "lens", "lens_roll", "pitch"]


@dataclass(frozen=True)
class Draft:
    """A built scene without a camera.

    Attributes:
        parts: the solids and their materials.
        lights, sky: the light.
        reach: how far ambient occlusion looks, metres.
        contrast: largest ratio of far to near depth that a picture may show. After alignment in disparity an error is as large
            as the nearest things make it, and swamps relative errors in a background many times as far.
        view: draws a camera each time it is called; not every one is worth a picture.
    """

    parts: Parts
    lights: tuple[Light, ...]
    sky: Sky
    reach: float
    contrast: float
    view: Callable[[], Camera]


class Floor:
    """Free spots of a rectangle |x| <= width/2, |y| <= length/2 of ``frame``; things are discs that may not overlap."""

    def __init__(self, palette: Palette, frame: Frame, width: float, length: float) -> None:
        self.palette, self.frame, self.width, self.length = palette, frame, width, length
        self.taken: list[tuple[float, float, float]] = []

    def claim(self, x: float, y: float, radius: float) -> bool:
        """Take a disc unless it overlaps another."""
        if any(math.hypot(x - a, y - b) < 0.9 * (radius + r) for a, b, r in self.taken):
            return False
        self.taken.append((x, y, radius))
        return True

    def spot(self, radius: float, tries: int = 6) -> Frame | None:
        """A free place for a disc, turned at random, or None."""
        w, d = self.width / 2 - radius, self.length / 2 - radius
        if w <= 0 or d <= 0:
            return None
        for _ in range(tries):
            x, y = self.palette.between(-w, w), self.palette.between(-d, d)
            if self.claim(x, y, radius):
                return self.frame.at(x, y, 0, self.palette.between(0, math.tau))
        return None

    def by_wall(self, width: float, depth: float, tries: int = 6) -> Frame | None:
        """A free place with the back to one of the four walls, facing the middle, for a thing ``width x depth``."""
        for _ in range(tries):
            side = int(self.palette.between(0, 4))
            along, away = (self.width, self.length) if side % 2 == 0 else (self.length, self.width)
            if along < width + 0.1:
                continue
            offset, back = self.palette.between(-1, 1) * (along - width) / 2, away / 2 - depth / 2 - 0.02
            turned = Frame(yaw=side * math.pi / 2)
            x, y, _ = turned.point(offset, -back)
            if self.claim(x, y, 0.5 * max(width, depth)):
                return self.frame.at(x, y, 0, side * math.pi / 2)
        return None

    def beside(self, height: float, away: tuple[float, float], low: float, high: float) -> Camera | None:
        """A camera at ``height``, ``away`` metres from one of the things, that looks at it at ``low`` to ``high``."""
        if not self.taken:
            return None
        palette = self.palette
        x, y, radius = self.taken[int(palette.rng.random() * len(self.taken))]
        distance, angle = radius + palette.between(*away), palette.between(0, math.tau)
        position = self.frame.point(x + distance * math.cos(angle), y + distance * math.sin(angle), height)
        return aim(palette, position, self.frame.point(x, y, palette.between(low, high)))


def lens(palette: Palette) -> float:
    """Focal length over image side: fields of view from about 95 to 38 degrees, most of them 50 to 75."""
    return palette.between(0.65, 1.1) if palette.chance(0.75) else palette.between(0.46, 1.45)


def lens_roll(palette: Palette) -> float:
    """Roll in radians: hand-held, sometimes askew."""
    return float(palette.rng.normal(0.0, 0.045)) if palette.chance(0.8) else palette.between(-0.45, 0.45)


def pitch(palette: Palette, mean: float, spread: float) -> float:
    """Pitch in radians around ``mean``, within what still looks like a photograph."""
    return float(min(max(palette.rng.normal(mean, spread), -1.35), 0.9))


def aim(palette: Palette, position: tuple[float, float, float], target: tuple[float, float, float]) -> Camera:
    """A camera at ``position`` with ``target`` somewhere in the middle of the image."""
    dx, dy, dz = (target[i] - position[i] for i in range(3))
    yaw = math.atan2(-dx, dy) + float(palette.rng.normal(0, 0.12))
    up = math.atan2(dz, math.hypot(dx, dy)) + float(palette.rng.normal(0, 0.09))
    return Camera.looking(position, yaw, max(min(up, 1.2), -1.5), lens_roll(palette), lens(palette), principal(palette))


def principal(palette: Palette) -> tuple[float, float]:
    """Principal point near the centre."""
    return palette.between(-0.03, 0.03), palette.between(-0.03, 0.03)


def daylight(palette: Palette, *, far: float) -> tuple[Sky, Light | None]:
    """A sky with its sun, from clear noon to dusk, overcast and fog; ``far`` is the scene's size, to which haze is fitted."""
    kind = palette.rng.random()
    clouds = palette.between(0.2, 1.0) if palette.chance(0.7) else 0.0
    offset = (palette.between(0, 1), palette.between(0, 1))
    haze = far * palette.between(0.8, 5) if palette.chance(0.75) else math.inf
    if kind < 0.25:  # overcast: no sun, no shadows
        grey = palette.hsv((0.55, 0.65), (0.0, 0.15), (0.75, 0.95))
        return Sky(scaled(grey, 0.8), grey, 1.0, offset, scaled(grey, 1.1), scaled(grey, 0.3), haze), None
    low = kind < 0.45
    height = palette.between(0.15, 0.4) if low else palette.between(0.45, 1.3)
    turn = palette.between(0, math.tau)
    direction = (math.cos(turn) * math.cos(height), math.sin(turn) * math.cos(height), math.sin(height))
    zenith = palette.hsv((0.56, 0.64), (0.35, 0.75), (0.55, 0.9))
    horizon = palette.hsv((0.03, 0.13), (0.2, 0.5), (0.8, 1.0)) if low else palette.hsv((0.53, 0.6), (0.05, 0.3), (0.85, 1.0))
    warmth = palette.between(0.45, 0.8) if low else palette.between(0.8, 1.0)
    power = palette.between(1.2, 2.4)
    color: Color = (power, power * (0.5 + 0.5 * warmth), power * warmth)
    ambient = palette.between(0.35, 0.7)
    sky = Sky(zenith, horizon, clouds, offset, scaled(zenith, 1.3 * ambient), scaled(horizon, 0.35 * ambient), haze)
    return sky, Light(direction, True, color, palette.between(0.01, 0.05))
