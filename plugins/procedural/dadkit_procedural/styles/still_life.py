"""Small things close to the camera: on a table, on the ground, against a wall."""

from __future__ import annotations

import math

from dadkit_procedural import furnish
from dadkit_procedural.palette import Palette, scaled
from dadkit_procedural.parts import Frame, Parts
from dadkit_procedural.scene import Camera, Light, Sky
from dadkit_procedural.styles.draft import Draft, Floor, aim, daylight

__all__ = ["objects"]


def objects(palette: Palette) -> Draft:
    """Five to twenty things of a hand's to a body's size, stacked, leaning and lying; indoors with walls, or out of doors."""
    parts = Parts()
    frame = Frame(yaw=palette.between(0, math.tau))
    scale = math.exp(palette.between(math.log(0.08), math.log(0.6)))  # height of a typical thing, metres
    span = scale * palette.between(5, 9)
    inside = palette.chance(0.75)
    parts.box(
        frame,
        (0, 0, -0.5),
        (40 if inside else 2000, 40 if inside else 2000, 0.5),
        palette.floor() if inside else palette.ground(),
    )
    top = 0.0
    if palette.chance(0.55):  # on a table
        top = palette.between(0.4, 0.9)
        furnish.table(parts, palette, frame, 1.2 * span, 1.2 * span, top, laid=False)
    if inside:
        _walls(parts, palette, frame, span)
    else:
        for _ in range(int(palette.between(2, 7))):
            angle, away = palette.between(0, math.tau), span + palette.between(2, 30)
            spot = frame.at(away * math.cos(angle), away * math.sin(angle), 0, palette.between(0, math.tau))
            furnish.tree(parts, palette, spot, palette.between(2, 8))
    _fill(parts, palette, Floor(palette, frame.at(0, 0, top), span, span), scale)
    sky, sun = daylight(palette, far=40)
    lights: tuple[Light, ...] = () if sun is None else (sun,)
    if inside:
        sky, lights = _studio(palette, frame, span, top, sky)

    def view() -> Camera:
        away, angle = span * palette.between(0.35, 1.1), palette.between(0, math.tau)
        down = palette.between(0.08, 0.7) if palette.chance(0.7) else palette.between(0.7, 1.35)
        centre = frame.point(palette.between(-0.2, 0.2) * span, palette.between(-0.2, 0.2) * span, top + 0.3 * scale)
        flat = away * math.cos(down)
        position = (
            centre[0] + flat * math.cos(angle),
            centre[1] + flat * math.sin(angle),
            max(centre[2] + away * math.sin(down), 0.1),
        )
        return aim(palette, position, centre)

    return Draft(parts, lights, sky, max(0.1, 0.7 * scale), 8.0, view)


def _walls(parts: Parts, palette: Palette, frame: Frame, span: float) -> None:
    """One to four walls around, at different distances."""
    for side in range(4):
        if palette.chance(0.85):
            away = 0.75 * span + span * palette.between(0.0, 1.0)
            wall = frame.at(0, 0, 0, side * math.pi / 2)
            parts.box(wall, (0, away + 0.1, 2.0), (30, 0.1, 6.0), palette.wall(), shared=True)
            if palette.chance(0.5):
                furnish.picture(
                    parts, palette, wall.at(palette.between(-1, 1), away, palette.between(0.8, 1.8), math.pi), 0.7, 0.5
                )


def _fill(parts: Parts, palette: Palette, floor: Floor, scale: float) -> None:
    """The things themselves."""
    for _ in range(int(palette.between(5, 18))):
        size = scale * math.exp(palette.between(-0.8, 0.7))
        spot = floor.spot(0.5 * size)
        if spot is None:
            continue
        kind = palette.rng.random()
        if kind < 0.62:
            furnish.small_thing(parts, palette, spot, size)
        elif kind < 0.82:
            furnish.crates(parts, palette, spot, size, 1 + int(palette.between(0, 4)))
        elif kind < 0.92:  # a board that leans on a block
            furnish.crates(parts, palette, spot, 0.6 * size, 1)
            lean = palette.between(0.4, 1.1)
            board = spot.at(0, 0.55 * size, 0.5 * size * math.sin(lean))
            parts.box(board, (0, 0, 0), (0.35 * size, 0.5 * size, 0.02 * size), palette.anything(size), tilt=-lean)
        else:
            furnish.plant(parts, palette, spot, 1.5 * size)


def _studio(palette: Palette, frame: Frame, span: float, top: float, sky: Sky) -> tuple[Sky, tuple[Light, ...]]:
    """One or two lamps around the things, and light thrown back by the walls."""
    lights = []
    for _ in range(2 if palette.chance(0.4) else 1):
        angle, away = palette.between(0, math.tau), span * palette.between(0.4, 1.0)
        position = frame.point(away * math.cos(angle), away * math.sin(angle), top + span * palette.between(0.6, 1.5))
        tint = palette.hsv((0.04, 0.16), (0.0, 0.35), (0.9, 1.0))
        lights.append(
            Light(position, False, scaled(tint, palette.between(0.6, 1.4) * (span * span + 0.3)), palette.between(0.05, 0.25))
        )
    level = palette.between(0.2, 0.6)
    tint = palette.hsv((0.03, 0.65), (0.0, 0.2), (0.85, 1.0))
    room = Sky(sky.zenith, sky.horizon, sky.clouds, sky.cloud_offset, scaled(tint, level), scaled(tint, 0.6 * level))
    return room, tuple(lights)
