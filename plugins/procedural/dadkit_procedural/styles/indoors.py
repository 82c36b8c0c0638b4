"""Rooms, corridors and halls."""

from __future__ import annotations

import math

from dadkit_procedural import furnish
from dadkit_procedural.palette import Palette
from dadkit_procedural.parts import Frame, Parts
from dadkit_procedural.scene import Camera
from dadkit_procedural.styles.draft import Draft, Floor, daylight, lens, lens_roll, pitch, principal
from dadkit_procedural.styles.shell import bounce, lamps, shell

__all__ = ["corridor", "hall", "room"]


def room(palette: Palette) -> Draft:
    """A furnished room: living room, study, bedroom, kitchen or store, depending on what falls into it."""
    parts = Parts()
    width, length, height = palette.between(2.4, 6.5), palette.between(2.6, 8), palette.between(2.2, 3.4)
    frame, outside = shell(parts, palette, width, length, height, doors=0.45, windows=0.45)
    floor = Floor(palette, frame, width, length)
    _furniture(parts, palette, floor, height)
    for side in range(4):
        along, away = (width, length) if side % 2 == 0 else (length, width)
        for _ in range(int(palette.between(0, 2.3))):
            wall = frame.at(
                *Frame(yaw=side * math.pi / 2).point(palette.between(-0.4, 0.4) * along, -away / 2)[:2], 0, side * math.pi / 2
            )
            tall = palette.between(0.25, 0.8)
            furnish.picture(
                parts, palette, wall.at(0, 0, min(palette.between(1.3, 1.8), height - tall)), palette.between(0.25, 0.9), tall
            )
    if palette.chance(0.4):
        rug = frame.at(0, 0, 0.006, palette.between(-0.3, 0.3))
        parts.box(rug, (0, 0, 0), (0.3 * width, 0.3 * length, 0.006), palette.fabric(2.0), casts=False)
    sky, sun = daylight(palette, far=60)
    lights = lamps(parts, palette, frame, width, length, height, 2 if palette.chance(0.35) else 1)
    if outside and sun is not None and palette.chance(0.6):
        lights = (*lights, sun)
    sky = bounce(palette, sky, lights, max(width, length))

    def view() -> Camera:
        x, y = palette.between(-0.5, 0.5) * (width - 0.5), palette.between(-0.5, 0.5) * (length - 0.5)
        z = palette.between(0.9, 1.8) if palette.chance(0.7) else palette.between(0.2, height - 0.25)
        position = frame.point(x, y, z)
        if palette.chance(0.6):  # towards the far side; else anywhere, a near wall included
            target = frame.point(
                -palette.between(0.1, 0.9) * x, -palette.between(0.3, 1.0) * y, palette.between(0, 0.7 * height)
            )
            yaw = math.atan2(-(target[0] - position[0]), target[1] - position[1])
        else:
            yaw = palette.between(0, math.tau)
        up = pitch(palette, -0.25, 0.25) if palette.chance(0.8) else pitch(palette, -0.8, 0.35)
        return Camera.looking(position, yaw, up, lens_roll(palette), lens(palette), principal(palette))

    return Draft(parts, lights, sky, 0.45, 6.0, view)


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
    frame, outside = shell(parts, palette, width, length, height, doors=0.25, windows=0.2)
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
                furnish.picture(
                    parts,
                    palette,
                    wall.at(0, 0, palette.between(1.3, 1.7)),
                    palette.between(0.4, 1.0),
                    palette.between(0.4, 0.7),
                )
            elif chance < 0.63:
                furnish.cupboard(parts, palette, wall.at(0, 0.2), 0.9, 0.34, palette.between(0.7, 1.9))
            elif chance < 0.71:
                furnish.plant(parts, palette, wall.at(0, 0.3), palette.between(0.6, 1.5))
            elif chance < 0.8:
                furnish.crates(parts, palette, wall.at(0, 0.3), palette.between(0.3, 0.5), 1 + int(palette.between(0, 3)))
        if palette.chance(0.12):
            furnish.person(
                parts, palette, frame.at(palette.between(-0.3, 0.3) * width, y + 0.4, 0, palette.between(0, math.tau))
            )
        y += step
    lights = lamps(parts, palette, frame, width, length, height, 2 if length < 14 else 3)
    sky, sun = daylight(palette, far=60)
    if outside and sun is not None and palette.chance(0.4):
        lights = (*lights, sun)
    sky = bounce(palette, sky, lights, length)

    def view() -> Camera:
        x, y = palette.between(-0.5, 0.5) * (width - 0.6), palette.between(-0.5, 0.1) * (length - 1)
        z = palette.between(1.2, 1.8) if palette.chance(0.7) else palette.between(0.25, height - 0.3)
        yaw = frame.yaw + (palette.between(-0.5, 0.5) if palette.chance(0.75) else palette.between(-1.4, 1.4))
        if palette.chance(0.5):
            y, yaw = -y, yaw + math.pi
        return Camera.looking(
            frame.point(x, y, z), yaw, pitch(palette, -0.08, 0.2), lens_roll(palette), lens(palette), principal(palette)
        )

    return Draft(parts, lights, sky, 0.45, 9.0, view)


def hall(palette: Palette) -> Draft:
    """A large space with columns, steps, benches, racks and people: a church, a market hall, a warehouse."""
    parts = Parts()
    width, length, height = palette.between(8, 20), palette.between(10, 34), palette.between(3.2, 9)
    frame, outside = shell(parts, palette, width, length, height, doors=0.5, windows=0.5)
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
    lights = lamps(parts, palette, frame, width, length, height, 2)
    sky, sun = daylight(palette, far=100)
    if outside and sun is not None and palette.chance(0.6):
        lights = (*lights, sun)
    sky = bounce(palette, sky, lights, length)

    def view() -> Camera:
        z = palette.between(1.2, 1.9) if palette.chance(0.6) else palette.between(0.3, height - 0.4)
        if palette.chance(0.5):
            near = floor.beside(z, (0.8, 5.0), 0.2, 2.0)
            if near is not None:
                return near
        x, y = palette.between(-0.48, 0.48) * width, palette.between(-0.48, 0.48) * length
        target = frame.point(palette.between(-0.4, 0.4) * width, palette.between(-0.4, 0.4) * length)
        position = frame.point(x, y, z)
        yaw = math.atan2(-(target[0] - position[0]), target[1] - position[1])
        mean = -0.12 if z < 2.5 else -0.45
        return Camera.looking(position, yaw, pitch(palette, mean, 0.22), lens_roll(palette), lens(palette), principal(palette))

    return Draft(parts, lights, sky, 0.8, 8.0, view)
