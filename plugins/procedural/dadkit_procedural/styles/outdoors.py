"""Open land and streets, under a sky that is infinitely far."""

from __future__ import annotations

import math

from dadkit_procedural import furnish
from dadkit_procedural.palette import Palette
from dadkit_procedural.parts import Frame, Parts
from dadkit_procedural.scene import Camera, Material
from dadkit_procedural.styles.draft import Draft, Floor, daylight, lens, lens_roll, pitch, principal

__all__ = ["land", "street"]


def land(palette: Palette) -> Draft:
    """Fields, woods, paths, rocks, fences, houses and hills."""
    parts = Parts()
    size = palette.between(10, 40)
    frame = Frame(yaw=palette.between(0, math.tau))
    parts.box(frame, (0, 0, -0.5), (3000, 3000, 0.5), palette.ground())
    if palette.chance(0.5):
        parts.box(
            frame,
            (palette.between(-2, 2), 0, 0.01),
            (palette.between(0.8, 3), 300, 0.01),
            palette.paving(),
            yaw=palette.between(-0.2, 0.2),
        )
    _horizon(parts, palette, frame, size)
    floor = Floor(palette, frame, size, size)
    for _ in range(int(palette.between(0, 2.6))):
        width, depth, height = palette.between(5, 12), palette.between(4, 7), palette.between(2.5, 5.5)
        spot = floor.spot(0.6 * width)
        if spot is not None:
            furnish.house(parts, palette, spot, width, depth, height)
    if palette.chance(0.45):
        _fence(parts, palette, frame.at(palette.between(-0.3, 0.3) * size, 0, 0, palette.between(-0.6, 0.6)), size)
    if palette.chance(0.3):
        _wood(parts, palette, floor)
    for _ in range(int(palette.between(8, 24))):
        _something(parts, palette, floor)
    sky, sun = daylight(palette, far=3 * size)

    def view() -> Camera:
        high = palette.chance(0.3)
        z = palette.between(2.5, 0.3 * size + 4) if high else palette.between(0.35, 2.0)
        if palette.chance(0.65):
            near = floor.beside(z, (z, z + 8) if high else (1.0, 8.0), 0.2, 2.5)
            if near is not None:
                return near
        x, y = palette.between(-0.5, 0.5) * size, palette.between(-0.5, 0.5) * size
        target = frame.point(palette.between(-0.3, 0.3) * size, palette.between(-0.3, 0.3) * size)
        position = frame.point(x, y, z)
        yaw = math.atan2(-(target[0] - position[0]), target[1] - position[1])
        down = -math.atan2(z, 0.4 * size) if high else -0.06
        return Camera.looking(position, yaw, pitch(palette, down, 0.16), lens_roll(palette), lens(palette), principal(palette))

    return Draft(parts, () if sun is None else (sun,), sky, 0.8, 16.0, view)


def _horizon(parts: Parts, palette: Palette, frame: Frame, size: float) -> None:
    """What ends the view: hills far and near, rows of hedges."""
    for _ in range(int(palette.between(0, 7))):
        angle, away = palette.between(0, math.tau), size * math.exp(palette.between(0.6, 3.0))
        broad, tall = away * palette.between(0.2, 0.55), away * palette.between(0.04, 0.2)
        hill = palette.ground()
        parts.ellipsoid(frame, (away * math.cos(angle), away * math.sin(angle), 0), (broad, broad, tall), hill, casts=False)
    for _ in range(int(palette.between(0, 3))):
        side = frame.at(0, 0, 0, palette.between(0, math.tau))
        away, tall = size * palette.between(0.55, 1.2), palette.between(0.5, 3)
        parts.box(
            side, (0, away, tall), (size * palette.between(0.4, 1.5), palette.between(0.4, 2), tall), palette.foliage(3.0)
        )


def _wood(parts: Parts, palette: Palette, floor: Floor) -> None:
    """Tall bare trunks, close together."""
    bark = palette.bark()
    for _ in range(int(palette.between(10, 26))):
        radius = palette.between(0.08, 0.35)
        spot = floor.spot(2 * radius + 0.3)
        if spot is not None:
            tall = palette.between(3, 7)
            parts.cone(spot, (0, 0, tall), (radius, 0.5 * radius), tall, bark)
            if palette.chance(0.3):
                crown = palette.between(0.8, 2.0)
                parts.ellipsoid(spot, (0, 0, 1.8 * tall), (crown, crown, 1.2 * crown), palette.foliage(1.5))


def _something(parts: Parts, palette: Palette, floor: Floor) -> None:
    """One thing that stands on open ground."""
    kind = palette.pick(
        "tree", "tree", "tree", "bush", "rock", "rock", "person", "bale", "crates", "post", "wall", "car", "thing"
    )
    spot = floor.spot({"tree": 1.5, "car": 2.3, "wall": 2.0, "bale": 1.0}.get(kind, 0.7))
    if spot is None:
        return
    if kind == "tree":
        furnish.tree(parts, palette, spot, palette.between(2.5, 11))
    elif kind == "bush":
        r = palette.between(0.4, 1.4)
        parts.ellipsoid(spot, (0, 0, 0.5 * r), (r, r * 0.9, 0.8 * r), palette.foliage(r))
    elif kind == "rock":
        a, b, c = (palette.between(0.15, 1.3) for _ in range(3))
        parts.ellipsoid(spot, (0, 0, 0.15 * c), (a, b, 0.8 * c), palette.rock(a), tilt=palette.between(-0.3, 0.3))
    elif kind == "person":
        furnish.person(parts, palette, spot)
    elif kind == "bale":
        r = palette.between(0.5, 0.8)
        straw = palette.ground()
        if palette.chance(0.6):
            parts.cone(spot, (0, 0, r), (r, r), 0.7, straw, tilt=furnish.QUARTER)
        else:
            parts.box(spot, (0, 0, 0.6 * r), (1.2 * r, 0.7 * r, 0.6 * r), straw)
    elif kind == "crates":
        furnish.crates(parts, palette, spot, palette.between(0.4, 1.8), 1 + int(palette.between(0, 4)))
    elif kind == "post":
        height = palette.between(1.0, 4.0)
        parts.cone(spot, (0, 0, height / 2), (0.08, 0.07), height / 2, palette.bark())
        if palette.chance(0.5):
            parts.box(spot, (0, 0.09, height - 0.3), (palette.between(0.2, 0.7), 0.02, 0.25), palette.picture())
    elif kind == "wall":
        parts.box(spot, (0, 0, 0.5), (palette.between(1, 3), 0.15, palette.between(0.4, 1.1)), palette.masonry())
    elif kind == "car":
        furnish.car(parts, palette, spot)
    else:
        furnish.small_thing(parts, palette, spot, palette.between(0.3, 2.0))


def _fence(parts: Parts, palette: Palette, frame: Frame, size: float) -> None:
    """Posts with two rails along y."""
    wood, height, gap = palette.wood(1.0), palette.between(0.8, 1.4), palette.between(1.5, 3)
    count = min(int(size / gap), 14)
    for i in range(count):
        parts.box(frame, (0, (i - count / 2 + 0.5) * gap, height / 2), (0.05, 0.05, height / 2), wood)
    for level in (0.5, 0.85):
        parts.box(frame, (0, 0, level * height), (0.02, count * gap / 2, 0.05), wood)


def street(palette: Palette) -> Draft:
    """A street between two rows of buildings, with pavements, cars, lamps, trees and people."""
    parts = Parts()
    frame = Frame(yaw=palette.between(0, math.tau))
    road, walk, length = palette.between(2.2, 6.5), palette.between(1.0, 4), palette.between(40, 110)
    parts.box(frame, (0, 0, -0.5), (3000, 3000, 0.5), palette.paving())
    slab = palette.paving()
    for side in (-1, 1):
        parts.box(frame, (side * (road + walk / 2 + 100), 0, 0.06), (walk / 2 + 100, length, 0.06), slab, shared=True)
        y = -length / 2
        low, high = (3, 8) if palette.chance(0.5) else (6, 28)
        while y < length / 2 and not palette.chance(0.06):
            wide, deep, tall = palette.between(5, 16), palette.between(5, 12), palette.between(low, high)
            _building(
                parts, palette, frame.at(side * (road + walk), y + wide / 2, 0.12, side * furnish.QUARTER), wide, deep, tall
            )
            y += wide + (palette.between(1, 5) if palette.chance(0.35) else 0.0)
    if palette.chance(0.5):
        stripe = palette.hsv((0.1, 0.15), (0, 0.3), (0.8, 0.95))
        paint = Material(stripe, stripe)
        for i in range(10):
            parts.box(frame, (0, (i - 5) * 6.0, 0.004), (0.07, 1.5, 0.004), paint, casts=False)
    if palette.chance(0.3):  # the street ends at a building
        _building(parts, palette, frame.at(0, length / 2, 0), 2 * road + 12, 8, palette.between(5, 20))
    _street_things(parts, palette, frame, road, walk, length)
    sky, sun = daylight(palette, far=length)

    def view() -> Camera:
        above = palette.chance(0.2)
        z = palette.between(4, 11) if above else palette.between(0.5, 2.2)
        x = palette.between(-1, 1) * (road + walk - 0.4)
        y = palette.between(-0.4, 0.1) * length
        yaw = palette.between(-0.5, 0.5) if palette.chance(0.6) else palette.between(-1.6, 1.6)
        up = pitch(palette, -0.35 if above else 0.04, 0.15)
        return Camera.looking(frame.point(x, y, z), frame.yaw + yaw, up, lens_roll(palette), lens(palette), principal(palette))

    return Draft(parts, () if sun is None else (sun,), sky, 1.0, 16.0, view)


def _building(parts: Parts, palette: Palette, frame: Frame, width: float, depth: float, height: float) -> None:
    """A house front at the frame's origin that looks along -y of the frame, with a door, a ledge and sometimes a shop."""
    front = palette.facade(palette.between(2.7, 3.5))
    parts.box(frame, (0, -depth / 2, height / 2), (width / 2, depth / 2, height / 2), front, shared=True)
    trim = palette.masonry()
    parts.box(frame, (0, 0.05, height), (width / 2, 0.15, 0.15), trim)
    parts.box(frame, (palette.between(-0.3, 0.3) * width, 0.02, 1.1), (0.55, 0.06, 1.1), palette.wood(1.0, tile="planks"))
    if palette.chance(0.3):
        parts.box(frame, (0, 0.6, 2.9), (0.4 * width, 0.7, 0.04), palette.fabric(3.0), tilt=-0.3)


def _street_things(parts: Parts, palette: Palette, frame: Frame, road: float, walk: float, length: float) -> None:
    """Parked and moving cars, lamps, trees, people, bins."""
    y = -length / 2 + palette.between(0, 6)
    while y < length / 2:
        side = 1 if palette.chance(0.5) else -1
        kerb, kind = side * (road + 0.5), palette.pick("car", "car", "car", "lamp", "tree", "person", "person", "bin", "thing")
        if kind == "car":
            lane = side * (road - 1.1) if palette.chance(0.7) else side * road * 0.4
            furnish.car(parts, palette, frame.at(lane, y, 0, math.pi if palette.chance(0.5) else 0.0))
            y += 3.0
        elif kind == "lamp":
            furnish.street_lamp(parts, palette, frame.at(kerb, y, 0.12, side * furnish.QUARTER))
        elif kind == "tree":
            furnish.tree(parts, palette, frame.at(kerb, y, 0.12), palette.between(3, 7))
        elif kind == "person":
            furnish.person(
                parts, palette, frame.at(side * (road + palette.between(0.3, walk)), y, 0.12, palette.between(0, math.tau))
            )
        elif kind == "bin":
            parts.cone(frame, (kerb, y, 0.12 + 0.45), (0.22, 0.26), 0.45, palette.plain())
        else:
            furnish.crates(parts, palette, frame.at(kerb, y, 0.12), palette.between(0.4, 0.9), 1 + int(palette.between(0, 3)))
        y += palette.between(0.8, 5.0)
