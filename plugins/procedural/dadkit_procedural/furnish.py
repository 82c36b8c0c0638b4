"""Things made of several solids, built at a frame: its origin is where they stand, its y axis their front."""

from __future__ import annotations

import math

from dadkit_procedural.palette import Palette, lamp
from dadkit_procedural.parts import Frame, Parts
from dadkit_procedural.scene import Material

__all__ = [
    "bed",
    "car",
    "chair",
    "crates",
    "cupboard",
    "floor_lamp",
    "house",
    "person",
    "picture",
    "plant",
    "shelf",
    "small_thing",
    "sofa",
    "street_lamp",
    "table",
    "tree",
]

QUARTER = math.pi / 2


def table(
    parts: Parts, palette: Palette, frame: Frame, width: float, depth: float, height: float, *, laid: bool = True
) -> None:
    """A top on four legs or one foot, often with small things on it."""
    wood = palette.wood(0.6) if palette.chance(0.7) else palette.plain()
    thick = palette.between(0.015, 0.03)
    if palette.chance(0.2):
        parts.cone(frame, (0, 0, height - thick), (0.5 * min(width, depth),) * 2, thick, wood)
        parts.cone(frame, (0, 0, 0.5 * height - thick), (0.12, 0.04), 0.5 * height - thick, palette.metal())
    else:
        parts.box(frame, (0, 0, height - thick), (width / 2, depth / 2, thick), wood)
        leg, legs = palette.between(0.02, 0.045), wood if palette.chance(0.6) else palette.metal()
        for sx in (-1, 1):
            for sy in (-1, 1):
                centre = (sx * (width / 2 - leg), sy * (depth / 2 - leg), height / 2 - thick)
                parts.box(frame, centre, (leg, leg, height / 2 - thick), legs)
    if laid:
        for _ in range(int(palette.between(0, 5))):
            spot = frame.at(palette.between(-0.35, 0.35) * width, palette.between(-0.35, 0.35) * depth, height)
            small_thing(parts, palette, spot, palette.between(0.06, 0.2))


def small_thing(parts: Parts, palette: Palette, frame: Frame, size: float) -> None:
    """One object about ``size`` metres high that stands at the frame: box, ball, can, cone, bowl, book, bottle, mug."""
    look = palette.anything(size)
    turned = frame.at(0, 0, 0, palette.between(0, math.tau))
    kind = palette.pick("box", "ball", "can", "cone", "dish", "book", "bottle", "egg", "lying", "lamp")
    half = size / 2
    if kind == "box":
        w, d = size * palette.between(0.25, 0.7), size * palette.between(0.25, 0.7)
        parts.box(turned, (0, 0, half), (w, d, half), look)
    elif kind == "ball":
        parts.ellipsoid(turned, (0, 0, half), (half, half, half), look)
    elif kind == "egg":
        a, b = size * palette.between(0.3, 0.8), size * palette.between(0.3, 0.8)
        parts.ellipsoid(turned, (0, 0, half), (a, b, half), look)
    elif kind == "can":
        r = size * palette.between(0.2, 0.5)
        parts.cone(turned, (0, 0, half), (r, r), half, look)
    elif kind == "cone":
        r = size * palette.between(0.3, 0.6)
        parts.cone(turned, (0, 0, half), (r, r * palette.between(0.0, 0.7)), half, look)
    elif kind == "dish":
        parts.cone(turned, (0, 0, size * 0.2), (size * 0.3, size * 0.7), size * 0.2, look)
    elif kind == "book":
        z = 0.0
        for _ in range(1 + int(palette.between(0, 3))):
            thick = size * palette.between(0.06, 0.16)
            parts.box(
                turned, (0, 0, z + thick), (size * 0.5, size * 0.7, thick), palette.plain(size), yaw=palette.between(-0.4, 0.4)
            )
            z += 2 * thick
    elif kind == "bottle":
        parts.cone(turned, (0, 0, 0.6 * half), (size * 0.17,) * 2, 0.6 * half, look)
        parts.cone(turned, (0, 0, 1.4 * half), (size * 0.17, size * 0.06), 0.2 * half, look)
        parts.cone(turned, (0, 0, 1.8 * half), (size * 0.06,) * 2, 0.2 * half, look)
    elif kind == "lying":
        r = size * palette.between(0.2, 0.4)
        parts.cone(turned, (0, 0, r), (r, r), size * 0.7, look, tilt=QUARTER)
    else:
        parts.cone(turned, (0, 0, 0.4 * size), (size * 0.12, size * 0.04), 0.4 * size, palette.metal())
        parts.cone(turned, (0, 0, 0.9 * size), (size * 0.4, size * 0.2), 0.2 * size, palette.fabric(size))


def chair(parts: Parts, palette: Palette, frame: Frame, material: Material | None = None) -> None:
    """Seat, back and legs; the back is behind."""
    wood = material or palette.wood(0.4)
    seat, width = palette.between(0.42, 0.48), palette.between(0.2, 0.24)
    parts.box(frame, (0, 0, seat), (width, width, 0.02), wood)
    parts.box(frame, (0, -width, seat + 0.25), (width, 0.018, 0.24), wood)
    for sx in (-1, 1):
        for sy in (-1, 1):
            parts.box(frame, (sx * (width - 0.02), sy * (width - 0.02), seat / 2), (0.02, 0.02, seat / 2), wood)


def shelf(parts: Parts, palette: Palette, frame: Frame, width: float, depth: float, height: float) -> None:
    """An open bookcase: sides, back and boards, with books and things on the boards."""
    wood = palette.wood(0.8) if palette.chance(0.7) else palette.plain()
    for side in (-1, 1):
        parts.box(frame, (side * (width / 2 - 0.012), 0, height / 2), (0.012, depth / 2, height / 2), wood)
    parts.box(frame, (0, -depth / 2 + 0.01, height / 2), (width / 2, 0.01, height / 2), wood)
    boards = max(2, round(height / 0.38))
    gap = height / boards
    for level in range(boards + 1):
        parts.box(frame, (0, 0, min(level * gap + 0.012, height - 0.012)), (width / 2, depth / 2, 0.012), wood)
        if level == boards:
            break
        if palette.chance(0.6):
            share = palette.between(0.4, 0.95)
            across = (1 - share) * palette.between(-0.5, 0.5) * width
            tall = 0.5 * gap * palette.between(0.6, 0.85)
            parts.box(
                frame,
                (across, -0.02, level * gap + 0.024 + tall),
                (share * width / 2 - 0.02, depth / 2 - 0.04, tall),
                palette.books(),
            )
        elif palette.chance(0.6):
            small_thing(parts, palette, frame.at(palette.between(-0.3, 0.3) * width, 0, level * gap + 0.024), gap * 0.6)


def cupboard(parts: Parts, palette: Palette, frame: Frame, width: float, depth: float, height: float) -> None:
    """A closed cabinet with a plinth and a top."""
    front = palette.drawers(width, height)
    parts.box(frame, (0, 0, height / 2 + 0.03), (width / 2, depth / 2, height / 2 - 0.03), front, shared=True)
    parts.box(frame, (0, -0.02, 0.03), (width / 2 - 0.02, depth / 2 - 0.03, 0.03), palette.plain())
    parts.box(frame, (0, 0.01, height + 0.012), (width / 2 + 0.015, depth / 2 + 0.015, 0.012), palette.wood(0.6))
    if height < 1.3:
        for _ in range(int(palette.between(0, 3))):
            small_thing(
                parts, palette, frame.at(palette.between(-0.4, 0.4) * width, 0, height + 0.024), palette.between(0.1, 0.35)
            )


def sofa(parts: Parts, palette: Palette, frame: Frame, width: float) -> None:
    """Base, back, arms and cushions."""
    cloth = palette.fabric()
    parts.box(frame, (0, 0, 0.22), (width / 2, 0.42, 0.2), cloth)
    parts.box(frame, (0, -0.34, 0.55), (width / 2, 0.12, 0.28), cloth, tilt=0.12)
    for side in (-1, 1):
        parts.box(frame, (side * (width / 2 + 0.08), 0, 0.32), (0.09, 0.42, 0.32), cloth)
    for _ in range(int(palette.between(0, 4))):
        place = palette.between(-0.38, 0.38) * width
        parts.box(frame, (place, -0.12, 0.6), (0.2, 0.06, 0.19), palette.fabric(0.5), yaw=palette.between(-0.3, 0.3), tilt=0.35)


def bed(parts: Parts, palette: Palette, frame: Frame, width: float) -> None:
    """Frame, mattress, blanket, pillows and headboard; the head is behind."""
    wood = palette.wood(0.8)
    parts.box(frame, (0, 0, 0.15), (width / 2, 1.0, 0.15), wood)
    parts.box(frame, (0, 0, 0.4), (width / 2 - 0.03, 0.97, 0.1), palette.fabric())
    parts.box(frame, (0, 0.3, 0.44), (width / 2, 0.7, 0.1), palette.fabric())
    parts.box(frame, (0, -1.02, 0.5), (width / 2, 0.03, palette.between(0.4, 0.65)), wood)
    for side in (-1, 1) if width > 1.1 else (0,):
        parts.ellipsoid(frame, (side * width / 4, -0.72, 0.55), (min(width, 1.2) * 0.24, 0.2, 0.09), palette.fabric(0.6))


def crates(parts: Parts, palette: Palette, frame: Frame, size: float, levels: int) -> None:
    """A pile of boxes, each on the one below, turned a little."""
    z, room = 0.0, size
    for _ in range(levels):
        half = room * palette.between(0.35, 0.5)
        deep, tall = half * palette.between(0.7, 1.0), half * palette.between(0.5, 1.0)
        cardboard = palette.anything(size) if palette.chance(0.5) else palette.wood(size, tile=palette.pick("planks", "grain"))
        parts.box(frame, (0, 0, z + tall), (half, deep, tall), cardboard, yaw=palette.between(-0.5, 0.5))
        z += 2 * tall
        room = 2 * deep * palette.between(0.7, 1.0)
    if palette.chance(0.3):
        small_thing(parts, palette, frame.at(0, 0, z), room * 0.4)


def plant(parts: Parts, palette: Palette, frame: Frame, height: float) -> None:
    """A pot with leaves."""
    pot = 0.28 * height
    parts.cone(frame, (0, 0, pot / 2), (0.5 * pot, 0.7 * pot), pot / 2, palette.plain())
    leaves = palette.foliage(0.3 * height)
    stalk = 0.5 * height
    parts.cone(frame, (0, 0, 0.45 * height), (0.02, 0.015), 0.25 * height, palette.bark())
    for turn in range(3):
        angle = turn * 2.1 + palette.between(0, 1)
        r = height * palette.between(0.16, 0.24)
        centre = (0.5 * r * math.cos(angle), 0.5 * r * math.sin(angle), stalk + height * palette.between(0.1, 0.3))
        parts.ellipsoid(frame, centre, (r, r * 0.9, r * 0.9), leaves)


def floor_lamp(parts: Parts, palette: Palette, frame: Frame) -> None:
    """A foot, a pole and a shade."""
    height, metal = palette.between(1.2, 1.75), palette.metal()
    parts.cone(frame, (0, 0, 0.015), (0.14, 0.13), 0.015, metal)
    parts.cone(frame, (0, 0, height / 2), (0.015, 0.012), height / 2, metal)
    parts.cone(frame, (0, 0, height), (0.2, 0.12), 0.14, palette.fabric(0.5))


def picture(parts: Parts, palette: Palette, frame: Frame, width: float, height: float) -> None:
    """A framed picture; the frame's origin lies on the wall, its y axis points into the room."""
    parts.box(frame, (0, 0.012, 0), (width / 2 + 0.025, 0.012, height / 2 + 0.025), palette.wood(0.3))
    parts.box(frame, (0, 0.026, 0), (width / 2, 0.004, height / 2), palette.picture())


def tree(parts: Parts, palette: Palette, frame: Frame, height: float) -> None:
    """A trunk with a crown of ellipsoids, or a fir of stacked cones."""
    leaves = palette.foliage(0.25 * height)
    if palette.chance(0.35):
        parts.cone(frame, (0, 0, 0.1 * height), (0.035 * height, 0.03 * height), 0.1 * height, palette.bark())
        wide = height * palette.between(0.18, 0.28)
        for level in range(3):
            low, r = (0.15 + 0.25 * level) * height, wide * (1 - 0.26 * level)
            parts.cone(frame, (0, 0, low + 0.17 * height), (r, 0.12 * r), 0.17 * height, leaves)
        return
    stem = height * palette.between(0.3, 0.45)
    parts.cone(frame, (0, 0, 0.6 * stem), (0.04 * height, 0.025 * height), 0.6 * stem, palette.bark())
    crown = height * palette.between(0.2, 0.32)
    for turn in range(3):
        angle = 2.1 * turn + palette.between(0, 1)
        r = crown * palette.between(0.65, 1.0)
        centre = (0.5 * crown * math.cos(angle), 0.5 * crown * math.sin(angle), stem + crown * palette.between(0.6, 1.2))
        parts.ellipsoid(frame, centre, (r, r, r * palette.between(0.75, 1.0)), leaves)


def house(parts: Parts, palette: Palette, frame: Frame, width: float, depth: float, height: float) -> None:
    """Walls, a gable roof whose ridge runs along x, a door, sometimes a chimney."""
    walls = palette.facade(2.8) if palette.chance(0.5) else palette.masonry()
    parts.box(frame, (0, 0, height / 2), (width / 2, depth / 2, height / 2), walls)
    side = depth / 2 / math.sqrt(2)
    parts.box(frame, (0, 0, height), (width / 2 + 0.01, side * 0.99, side * 0.99), walls, tilt=QUARTER / 2)
    roof = palette.masonry()
    for direction in (-1, 1):
        centre = (0, direction * depth * 0.27, height + depth * 0.25)
        parts.box(frame, centre, (width / 2 + 0.3, depth * 0.39, 0.08), roof, tilt=-direction * QUARTER / 2)
    parts.box(frame, (palette.between(-0.3, 0.3) * width, depth / 2, 1.0), (0.5, 0.06, 1.0), palette.wood(1.0, tile="planks"))
    if palette.chance(0.5):
        parts.box(frame, (0.3 * width, 0.1 * depth, height + 0.5 * depth), (0.3, 0.3, 0.7), palette.masonry())


def car(parts: Parts, palette: Palette, frame: Frame) -> None:
    """Body, cabin and four wheels; it heads along y."""
    paint = palette.plain(3.0)
    glass = Material((0.01, 0.015, 0.02), (0.05, 0.06, 0.08), gloss=0.8)
    rubber = Material((0.01, 0.01, 0.01), (0.03, 0.03, 0.03))
    length, tall = palette.between(1.8, 2.3), palette.between(0.26, 0.34)
    parts.box(frame, (0, 0, 0.32 + tall), (0.85, length, tall), paint)
    back = palette.between(-0.5, 0.0)
    parts.box(frame, (0, back, 0.32 + 2 * tall + 0.22), (0.72, 0.55 * length, 0.22), glass)
    parts.box(frame, (0, back, 0.32 + 2 * tall + 0.47), (0.74, 0.5 * length, 0.04), paint)
    for sx in (-1, 1):
        for sy in (-1, 1):
            parts.cone(frame, (sx * 0.76, sy * 0.62 * length, 0.33), (0.33, 0.33), 0.12, rubber, yaw=QUARTER, tilt=QUARTER)


def person(parts: Parts, palette: Palette, frame: Frame) -> None:
    """Legs, body, arms and head: the measure of everything."""
    height = palette.between(1.5, 1.95)
    skin = Material(*(palette.hsv((0.03, 0.08), (0.3, 0.6), (0.4, 0.9)),) * 2)
    trousers, shirt = palette.plain(), palette.fabric(0.6)
    for side in (-1, 1):
        parts.cone(frame, (side * 0.09, 0, 0.24 * height), (0.06, 0.085), 0.24 * height, trousers)
        parts.cone(frame, (side * 0.25, 0, 0.62 * height), (0.035, 0.055), 0.19 * height, shirt)
    parts.cone(frame, (0, 0, 0.65 * height), (0.16, 0.2), 0.18 * height, shirt)
    parts.ellipsoid(frame, (0, 0, 0.92 * height), (0.09, 0.1, 0.08 * height), skin)


def street_lamp(parts: Parts, palette: Palette, frame: Frame) -> None:
    """A tapering pole with an arm."""
    height, metal = palette.between(3.5, 7), palette.metal()
    parts.cone(frame, (0, 0, height / 2), (0.09, 0.05), height / 2, metal)
    parts.box(frame, (0, 0.5, height), (0.05, 0.55, 0.04), metal)
    parts.box(frame, (0, 0.95, height - 0.06), (0.1, 0.2, 0.04), lamp((0.7, 0.7, 0.6)))
