"""The walls of closed spaces, with real openings for doors and windows, what is seen through them, and the lamps inside."""

from __future__ import annotations

import math
from dataclasses import replace

from dadkit_procedural import furnish
from dadkit_procedural.palette import Palette, lamp, scaled
from dadkit_procedural.parts import Frame, Parts
from dadkit_procedural.scene import Color, Light, Material, Sky

__all__ = ["bounce", "lamps", "shell"]

_THICK = 0.1  # half the thickness of walls
Opening = tuple[float, float, float, float]  # left, right, bottom, top on the wall


def _wall(parts: Parts, frame: Frame, length: float, height: float, material: Material, openings: list[Opening]) -> None:
    """A wall along x from -length/2 to length/2 whose inner face lies at y = 0 and looks along +y, with holes left to right."""
    left = -length / 2

    def panel(x0: float, x1: float, z0: float, z1: float) -> None:
        if x1 - x0 > 1e-3 and z1 - z0 > 1e-3:
            centre = ((x0 + x1) / 2, -_THICK, (z0 + z1) / 2)
            parts.box(frame, centre, ((x1 - x0) / 2, _THICK, (z1 - z0) / 2), material, shared=True)

    for x0, x1, z0, z1 in sorted(openings):
        panel(left, x0, 0, height)
        panel(x0, x1, 0, z0)
        panel(x0, x1, z1, height)
        left = x1
    panel(left, length / 2, 0, height)


def _window(parts: Parts, palette: Palette, frame: Frame, opening: Opening) -> None:
    """A sill and a cross of bars in an opening."""
    x0, x1, z0, z1 = opening
    wood = palette.plain()
    x, z, w, h = (x0 + x1) / 2, (z0 + z1) / 2, (x1 - x0) / 2, (z1 - z0) / 2
    parts.box(frame, (x, 0.03, z0 - 0.015), (w + 0.06, 0.14, 0.015), wood)
    if palette.chance(0.7):
        parts.box(frame, (x, -_THICK, z), (0.025, 0.03, h), wood)
        parts.box(frame, (x, -_THICK, z + 0.3 * h), (w, 0.03, 0.025), wood)
    if palette.chance(0.35):
        curtain = palette.fabric()
        for side in (-1, 1):
            parts.box(frame, (x + side * (w + 0.12), 0.08, z - 0.1), (0.2, 0.03, h + 0.25), curtain)


def shell(
    parts: Parts, palette: Palette, width: float, length: float, height: float, doors: float, windows: float
) -> tuple[Frame, bool]:
    """Floor, ceiling and four walls around the origin; returns the frame and whether there is a view outside."""
    frame = Frame(yaw=palette.between(0, math.tau))
    floor, walls = palette.floor(), palette.wall()
    grow = 2 * _THICK
    parts.box(frame, (0, 0, -0.1), (width / 2 + grow, length / 2 + grow, 0.1), floor, shared=True)
    parts.box(frame, (0, 0, height + 0.1), (width / 2 + grow, length / 2 + grow, 0.1), palette.ceiling(), shared=True)
    skirting = palette.plain() if palette.chance(0.5) else None
    outside = False
    for side in range(4):
        along, away = (width, length) if side % 2 == 0 else (length, width)
        wall = frame.at(*Frame(yaw=side * math.pi / 2).point(0, -away / 2)[:2], 0, side * math.pi / 2)
        paint = palette.wall() if palette.chance(0.2) else walls
        openings: list[Opening] = []
        if along > 2 and palette.chance(doors):
            x, w = palette.between(-0.4, 0.4) * (along - 1.4), palette.between(0.4, 0.55)
            if palette.chance(0.5):
                openings.append((x - w, x + w, 0.0, min(2.05, height - 0.15)))
                outside = True
            else:
                parts.box(wall, (x, 0.01, 1.02), (w, 0.03, 1.02), palette.drawers(2 * w, 2.04), shared=True)
                parts.ellipsoid(wall, (x + 0.85 * w, 0.06, 1.0), (0.03, 0.03, 0.03), palette.metal())
        elif along > 2 and palette.chance(windows):
            count = 1 if along < 5 else 1 + int(palette.between(0, 2.5))
            bottom, top = palette.between(0.3, 1.0), height - palette.between(0.2, 0.5)
            half = min(palette.between(0.4, 1.2), 0.38 * along / count)
            for i in range(count):
                x = along * ((i + 0.5) / count - 0.5)
                openings.append((x - half, x + half, bottom, top))
                _window(parts, palette, wall, openings[-1])
            outside = True
        elif skirting is not None:
            parts.box(wall, (0, 0.008, 0.05), (along / 2, 0.008, 0.05), skirting)
        _wall(parts, wall, along + 2 * grow if side % 2 else along, height, paint, openings)
    if outside:
        _outside(parts, palette, frame, max(width, length))
    return frame, outside


def _outside(parts: Parts, palette: Palette, frame: Frame, size: float) -> None:
    """What doors and windows show: ground, trees, houses."""
    parts.box(frame, (0, 0, -0.7), (2000, 2000, 0.5), palette.ground())
    for _ in range(int(palette.between(2, 6))):
        angle, away = palette.between(0, math.tau), size + palette.between(3, 25)
        spot = frame.at(away * math.cos(angle), away * math.sin(angle), -0.2, palette.between(0, math.tau))
        if palette.chance(0.6):
            furnish.tree(parts, palette, spot, palette.between(3, 9))
        else:
            furnish.house(parts, palette, spot.at(0, 8), palette.between(6, 12), palette.between(5, 8), palette.between(3, 6))


def lamps(
    parts: Parts, palette: Palette, frame: Frame, width: float, length: float, height: float, count: int
) -> tuple[Light, ...]:
    """Lamps on or below the ceiling; brighter in larger rooms."""
    tint = (
        palette.hsv((0.04, 0.16), (0.05, 0.4), (0.9, 1.0))
        if palette.chance(0.75)
        else palette.hsv((0.55, 0.65), (0, 0.2), (0.9, 1))
    )
    power = palette.between(0.5, 1.0) * max(width * length, 8.0) ** 0.75 / count
    lights = []
    for i in range(count):
        y = length * ((i + 0.5) / count - 0.5) + palette.between(-0.1, 0.1) * length
        x, drop = palette.between(-0.25, 0.25) * width, palette.between(0.05, 0.25) * height
        glow = lamp(scaled(tint, 3.0))
        if palette.chance(0.5):
            size = palette.between(0.08, 0.16)
            parts.ellipsoid(frame, (x, y, height - drop), (size, size, size), glow, casts=False)
            parts.cone(frame, (x, y, height - drop / 2), (0.01, 0.01), drop / 2, palette.metal(), casts=False)
        else:
            drop = 0.03
            parts.box(
                frame,
                (x, y, height - drop / 2),
                (palette.between(0.15, 0.4), palette.between(0.15, 0.4), drop / 2),
                glow,
                casts=False,
            )
            drop = 0.12
        lights.append(Light(frame.point(x, y, height - drop), False, scaled(tint, power), palette.between(0.05, 0.15)))
    return tuple(lights)


def bounce(palette: Palette, sky: Sky, lights: tuple[Light, ...], size: float) -> Sky:
    """The sky with ambient light as it is indoors: what walls throw back, no haze."""
    tint: Color = palette.hsv((0.03, 0.16), (0.05, 0.3), (0.85, 1.0))
    level = palette.between(0.12, 0.4)
    if lights:
        level *= sum(max(light.color) for light in lights if not light.is_sun) / (0.3 * size * size + 1) + 0.4
    return replace(sky, above=scaled(tint, level), below=scaled(tint, level * palette.between(0.4, 0.9)), haze=math.inf)
