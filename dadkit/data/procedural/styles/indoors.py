"""Rooms, corridors and halls: closed spaces whose walls are real solids, so that doors and windows are real openings."""

from __future__ import annotations

import math
from dataclasses import replace

from dadkit.data.procedural import furnish
from dadkit.data.procedural.palette import Palette, lamp, scaled
from dadkit.data.procedural.scene import Camera, Color, Frame, Light, Material, Parts, Sky
from dadkit.data.procedural.styles.draft import Draft, Floor, daylight, lens, lens_roll, pitch, principal

__all__ = ["corridor", "hall", "room"]

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


def _shell(
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


def _lamps(
    parts: Parts, palette: Palette, frame: Frame, width: float, length: float, height: float, count: int
) -> tuple[Light, ...]:
    """Lamps on or below the ceiling; brighter in larger rooms."""
    tint = palette.hsv((0.04, 0.16), (0.05, 0.4), (0.9, 1.0)) if palette.chance(0.75) else palette.hsv((0.55, 0.65), (0, 0.2), (0.9, 1))
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
            parts.box(frame, (x, y, height - drop / 2), (palette.between(0.15, 0.4), palette.between(0.15, 0.4), drop / 2), glow, casts=False)
            drop = 0.12
        lights.append(Light(frame.point(x, y, height - drop), False, scaled(tint, power), palette.between(0.05, 0.15)))
    return tuple(lights)


def _ambient(palette: Palette, sky: Sky, lights: tuple[Light, ...], size: float) -> Sky:
    """The sky with ambient light as it is indoors: what walls throw back, no haze."""
    tint: Color = palette.hsv((0.03, 0.16), (0.05, 0.3), (0.85, 1.0))
    level = palette.between(0.12, 0.4)
    if lights:
        level *= sum(max(light.color) for light in lights if not light.is_sun) / (0.3 * size * size + 1) + 0.4
    return replace(sky, above=scaled(tint, level), below=scaled(tint, level * palette.between(0.4, 0.9)), haze=math.inf)


def room(palette: Palette) -> Draft:
    """A furnished room: living room, study, bedroom, kitchen or store, depending on what falls into it."""
    parts = Parts()
    width, length, height = palette.between(2.4, 6.5), palette.between(2.6, 8), palette.between(2.2, 3.4)
    frame, outside = _shell(parts, palette, width, length, height, doors=0.45, windows=0.45)
    floor = Floor(palette, frame, width, length)
    _furniture(parts, palette, floor, height)
    for side in range(4):
        along, away = (width, length) if side % 2 == 0 else (length, width)
        for _ in range(int(palette.between(0, 2.3))):
            wall = frame.at(*Frame(yaw=side * math.pi / 2).point(palette.between(-0.4, 0.4) * along, -away / 2)[:2], 0, side * math.pi / 2)
            tall = palette.between(0.25, 0.8)
            furnish.picture(parts, palette, wall.at(0, 0, min(palette.between(1.3, 1.8), height - tall)), palette.between(0.25, 0.9), tall)
    if palette.chance(0.4):
        rug = frame.at(0, 0, 0.006, palette.between(-0.3, 0.3))
        parts.box(rug, (0, 0, 0), (0.3 * width, 0.3 * length, 0.006), palette.fabric(2.0), casts=False)
    sky, sun = daylight(palette, far=60)
    lights = _lamps(parts, palette, frame, width, length, height, 2 if palette.chance(0.35) else 1)
    if outside and sun is not None and palette.chance(0.6):
        lights = (*lights, sun)
    sky = _ambient(palette, sky, lights, max(width, length))

    def view() -> Camera:
        x, y = palette.between(-0.5, 0.5) * (width - 0.5), palette.between(-0.5, 0.5) * (length - 0.5)
        z = palette.between(0.9, 1.8) if palette.chance(0.7) else palette.between(0.2, height - 0.25)
        position = frame.point(x, y, z)
        if palette.chance(0.6):  # towards the far side; else anywhere, a near wall included
            target = frame.point(-palette.between(0.1, 0.9) * x, -palette.between(0.3, 1.0) * y, palette.between(0, 0.7 * height))
            yaw = math.atan2(-(target[0] - position[0]), target[1] - position[1])
        else:
            yaw = palette.between(0, math.tau)
        up = pitch(palette, -0.25, 0.25) if palette.chance(0.8) else pitch(palette, -0.8, 0.35)
        return Camera.looking(position, yaw, up, lens_roll(palette), lens(palette), principal(palette))

    return Draft(parts, lights, sky, 0.45, view)


def _furniture(parts: Parts, palette: Palette, floor: Floor, height: float) -> None:
    """Between four and ten things: large ones along the walls, others anywhere."""
    for _ in range(int(palette.between(2, 6))):
        kind = palette.pick("shelf", "cupboard", "sofa", "bed", "cupboard", "crates", "desk")
        width = {"sofa": 1.9, "bed": 2.1}.get(kind, palette.between(0.5, 1.6))
        depth = {"sofa": 0.9, "bed": 2.1, "desk": 0.65}.get(kind, palette.between(0.28, 0.55))
        spot = floor.by_wall(width, depth)
        if spot is None:
            continue
        if kind == "shelf":
            furnish.shelf(parts, palette, spot, width, min(depth, 0.4), palette.between(0.8, min(2.1, height - 0.1)))
        elif kind == "cupboard":
            furnish.cupboard(parts, palette, spot, width, depth, palette.between(0.6, min(2.1, height - 0.1)))
        elif kind == "sofa":
            furnish.sofa(parts, palette, spot, width - 0.35)
        elif kind == "bed":
            furnish.bed(parts, palette, spot, palette.between(0.9, 1.8))
        elif kind == "crates":
            furnish.crates(parts, palette, spot, depth, 1 + int(palette.between(0, 4)))
        else:
            furnish.table(parts, palette, spot, width, depth, palette.between(0.7, 0.78))
            furnish.chair(parts, palette, spot.at(0, 0.55, 0, math.pi))
    for _ in range(int(palette.between(1, 6))):
        kind = palette.pick("table", "plant", "lamp", "crates", "thing", "thing", "chair", "person", "stool")
        spot = floor.spot({"table": 0.8, "plant": 0.3}.get(kind, 0.35))
        if spot is None:
            continue
        if kind == "table":
            width, depth = palette.between(0.8, 1.6), palette.between(0.6, 0.9)
            furnish.table(parts, palette, spot, width, depth, palette.between(0.4, 0.78))
            for side in range(int(palette.between(0, 3))):
                furnish.chair(parts, palette, spot.at(0, 0, 0, side * math.pi).at(0, -depth / 2 - 0.2))
        elif kind == "plant":
            furnish.plant(parts, palette, spot, palette.between(0.5, 1.6))
        elif kind == "lamp":
            furnish.floor_lamp(parts, palette, spot)
        elif kind == "crates":
            furnish.crates(parts, palette, spot, palette.between(0.3, 0.6), 1 + int(palette.between(0, 4)))
        elif kind == "chair":
            furnish.chair(parts, palette, spot)
        elif kind == "person":
            furnish.person(parts, palette, spot)
        elif kind == "stool":
            parts.cone(spot, (0, 0, 0.22), (0.2, 0.18), 0.22, palette.anything(0.5))
        else:
            furnish.small_thing(parts, palette, spot, palette.between(0.12, 0.6))


def corridor(palette: Palette) -> Draft:
    """A long narrow space with doors, pilasters, things along the walls, and a closed or an open end."""
    parts = Parts()
    width, length, height = palette.between(1.3, 3.2), palette.between(7, 26), palette.between(2.2, 3.6)
    frame, outside = _shell(parts, palette, width, length, height, doors=0.25, windows=0.2)
    step = palette.between(1.8, 4.0)
    ribs = palette.plain() if palette.chance(0.5) else None
    wood = palette.drawers(0.9, 2.0)
    y = -length / 2 + step
    while y < length / 2 - 0.8:
        for side in (-1, 1):
            wall = frame.at(side * width / 2, y, 0, side * math.pi / 2)
            if ribs is not None:
                parts.box(wall, (step / 2, 0.05, height / 2), (0.12, 0.06, height / 2), ribs)
            chance = palette.rng.random()
            if chance < 0.35:
                parts.box(wall, (0, 0.02, 1.0), (0.45, 0.03, 1.0), wood, shared=True)
            elif chance < 0.55:
                furnish.picture(parts, palette, wall.at(0, 0, palette.between(1.3, 1.7)), palette.between(0.4, 1.0), palette.between(0.4, 0.7))
            elif chance < 0.63:
                furnish.cupboard(parts, palette, wall.at(0, 0.2), 0.9, 0.34, palette.between(0.7, 1.9))
            elif chance < 0.71:
                furnish.plant(parts, palette, wall.at(0, 0.3), palette.between(0.6, 1.5))
            elif chance < 0.8:
                furnish.crates(parts, palette, wall.at(0, 0.3), palette.between(0.3, 0.5), 1 + int(palette.between(0, 3)))
        if palette.chance(0.12):
            furnish.person(parts, palette, frame.at(palette.between(-0.3, 0.3) * width, y + 0.4, 0, palette.between(0, math.tau)))
        y += step
    lights = _lamps(parts, palette, frame, width, length, height, 2 if length < 14 else 3)
    sky, sun = daylight(palette, far=60)
    if outside and sun is not None and palette.chance(0.4):
        lights = (*lights, sun)
    sky = _ambient(palette, sky, lights, length)

    def view() -> Camera:
        x, y = palette.between(-0.5, 0.5) * (width - 0.6), palette.between(-0.5, 0.1) * (length - 1)
        z = palette.between(1.2, 1.8) if palette.chance(0.7) else palette.between(0.25, height - 0.3)
        yaw = frame.yaw + (palette.between(-0.5, 0.5) if palette.chance(0.75) else palette.between(-1.4, 1.4))
        if palette.chance(0.5):
            y, yaw = -y, yaw + math.pi
        return Camera.looking(
            frame.point(x, y, z), yaw, pitch(palette, -0.08, 0.2), lens_roll(palette), lens(palette), principal(palette)
        )

    return Draft(parts, lights, sky, 0.45, view)


def hall(palette: Palette) -> Draft:
    """A large space with columns, steps, benches, racks and people: a church, a market hall, a warehouse."""
    parts = Parts()
    width, length, height = palette.between(8, 20), palette.between(10, 34), palette.between(3.2, 9)
    frame, outside = _shell(parts, palette, width, length, height, doors=0.5, windows=0.5)
    floor = Floor(palette, frame, width, length)
    if palette.chance(0.7):
        radius, look = palette.between(0.15, 0.5), palette.masonry() if palette.chance(0.5) else palette.anything(1.5)
        columns, rows = 2 if palette.chance(0.7) else 3, int(palette.between(2, 5))
        square = palette.chance(0.4)
        for i in range(columns):
            for j in range(rows):
                x, y = width * ((i + 0.75) / (columns + 0.5) - 0.5), length * ((j + 0.5) / rows - 0.5)
                floor.claim(x, y, radius + 0.1)
                if square:
                    parts.box(frame, (x, y, height / 2), (radius, radius, height / 2), look)
                else:
                    parts.cone(frame, (x, y, height / 2), (radius, 0.85 * radius), height / 2, look)
                parts.box(frame, (x, y, 0.12), (1.3 * radius, 1.3 * radius, 0.12), look)
    if palette.chance(0.4):  # steps up to a platform along one end
        look, count = palette.masonry(), 3 + int(palette.between(0, 4))
        for i in range(count):
            deep = 0.35 * (count - i) + 1.0
            parts.box(frame, (0, length / 2 - deep / 2, 0.17 * i + 0.085), (width / 2, deep / 2, 0.085), look)
        floor.length -= 2 * (0.35 * count + 1.0)
    for _ in range(int(palette.between(5, 13))):
        kind = palette.pick("bench", "person", "person", "crates", "rack", "plant", "table", "statue", "thing", "screen")
        spot = floor.spot({"bench": 0.9, "rack": 1.2, "table": 0.9, "screen": 1.1}.get(kind, 0.5))
        if spot is None:
            continue
        if kind == "bench":
            parts.box(spot, (0, 0, 0.43), (0.9, 0.2, 0.03), palette.wood(0.6))
            for side in (-1, 1):
                parts.box(spot, (0.7 * side, 0, 0.2), (0.04, 0.17, 0.2), palette.metal())
        elif kind == "person":
            furnish.person(parts, palette, spot)
        elif kind == "crates":
            furnish.crates(parts, palette, spot, palette.between(0.5, 1.2), 1 + int(palette.between(0, 5)))
        elif kind == "rack":
            furnish.shelf(parts, palette, spot, palette.between(1.2, 2.2), 0.6, palette.between(1.6, 2.4))
        elif kind == "plant":
            furnish.plant(parts, palette, spot, palette.between(1.0, 2.5))
        elif kind == "table":
            furnish.table(parts, palette, spot, palette.between(1.0, 1.7), 0.8, 0.75)
        elif kind == "statue":
            parts.box(spot, (0, 0, 0.45), (0.35, 0.35, 0.45), palette.masonry())
            furnish.small_thing(parts, palette, spot.at(0, 0, 0.9), palette.between(0.5, 1.1))
        elif kind == "screen":
            parts.box(spot, (0, 0, 1.0), (1.0, 0.04, 1.0), palette.picture())
        else:
            furnish.small_thing(parts, palette, spot, palette.between(0.4, 1.4))
    lights = _lamps(parts, palette, frame, width, length, height, 2)
    sky, sun = daylight(palette, far=100)
    if outside and sun is not None and palette.chance(0.6):
        lights = (*lights, sun)
    sky = _ambient(palette, sky, lights, length)

    def view() -> Camera:
        x, y = palette.between(-0.48, 0.48) * width, palette.between(-0.48, 0.48) * length
        z = palette.between(1.2, 1.9) if palette.chance(0.6) else palette.between(0.3, height - 0.4)
        target = frame.point(palette.between(-0.4, 0.4) * width, palette.between(-0.4, 0.4) * length)
        position = frame.point(x, y, z)
        yaw = math.atan2(-(target[0] - position[0]), target[1] - position[1])
        mean = -0.12 if z < 2.5 else -0.45
        return Camera.looking(position, yaw, pitch(palette, mean, 0.22), lens_roll(palette), lens(palette), principal(palette))

    return Draft(parts, lights, sky, 0.8, view)
