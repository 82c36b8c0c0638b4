"""Materials drawn at random: walls, floors, woods, fabrics, grounds, facades, foliage, and things of any colour."""

from __future__ import annotations

import colorsys

import numpy as np

from dadkit_procedural.scene import Color, Material

__all__ = ["Palette", "lamp", "scaled"]

_OBJECT_TILES = (
    "plaster",
    "clouds",
    "speckle",
    "checker",
    "stripes",
    "uneven_stripes",
    "dots",
    "plaid",
    "poster",
    "weave",
    "marble",
    "grain",
    "leaves",
    "ripples",
)


def scaled(color: Color, factor: float) -> Color:
    """A colour made darker or lighter."""
    return (color[0] * factor, color[1] * factor, color[2] * factor)


def lamp(color: Color) -> Material:
    """A surface that shines by itself."""
    return Material((0.0, 0.0, 0.0), color, grunge=0.0, emission=1.0)


class Palette:
    """Draws materials from ``rng``; colours are linear RGB albedos, periods are metres."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def between(self, low: float, high: float) -> float:
        """A uniform number."""
        return low + (high - low) * self.rng.random()

    def chance(self, probability: float) -> bool:
        """True with that probability."""
        return bool(self.rng.random() < probability)

    def pick(self, *names: str) -> str:
        """One of the names."""
        return names[int(self.rng.random() * len(names))]

    def hsv(self, hue: tuple[float, float], saturation: tuple[float, float], value: tuple[float, float]) -> Color:
        """A colour from ranges of displayed hue, saturation and value, as linear RGB."""
        rgb = colorsys.hsv_to_rgb(self.between(*hue) % 1.0, self.between(*saturation), self.between(*value))
        return (rgb[0] ** 2.2, rgb[1] ** 2.2, rgb[2] ** 2.2)

    def _material(self, color: Color, tile: str, period: float, dark: float, **more: float) -> Material:
        """A tile between ``color`` times ``dark`` and ``color``."""
        return Material(scaled(color, dark), color, tile, (period, period), **more)

    def anything(self, size: float) -> Material:
        """Any look, for an object of ``size`` metres."""
        tile = self.pick(*_OBJECT_TILES)
        high = self.hsv((0, 1), (0.05, 0.85), (0.35, 0.95))
        low = scaled(high, self.between(0.3, 0.8)) if self.chance(0.5) else self.hsv((0, 1), (0.0, 0.8), (0.15, 0.9))
        period = size * self.between(0.6, 2.2)
        gloss = self.between(0, 0.5) if self.chance(0.4) else 0.0
        return Material(low, high, tile, (period, period), grunge=self.between(0, 0.35), gloss=gloss)

    def plain(self, size: float = 1.0) -> Material:
        """A painted thing of one colour."""
        color = self.hsv((0, 1), (0.05, 0.8), (0.25, 0.95))
        gloss = self.between(0, 0.4) if self.chance(0.4) else 0.0
        return self._material(color, "plaster", 1.5 * size, self.between(0.75, 0.95), grunge=0.2, gloss=gloss)

    def wall(self) -> Material:
        """An indoor wall: mostly paint, sometimes paper, bricks, tiles or boards."""
        kind = self.rng.random()
        color = self.hsv((0, 1), (0.0, 0.4), (0.55, 0.97))
        if kind < 0.5:
            return self._material(
                color, self.pick("plaster", "clouds"), self.between(1.5, 3), self.between(0.7, 0.92), grunge=0.2
            )
        if kind < 0.68:
            tile = self.pick("stripes", "dots", "plaid", "weave", "uneven_stripes", "leaves")
            return self._material(color, tile, self.between(0.5, 1.6), self.between(0.55, 0.85), grunge=0.15)
        if kind < 0.82:
            brick = self.hsv((0.0, 0.1), (0.1, 0.6), (0.4, 0.8))
            return Material(self.hsv((0.05, 0.15), (0, 0.2), (0.4, 0.8)), brick, "bricks", (1.0, 0.65), grunge=0.3)
        if kind < 0.92:
            return self._material(color, "tiled", self.between(0.6, 1.6), self.between(0.4, 0.75), grunge=0.1, gloss=0.2)
        return self.wood(self.between(0.8, 1.4), tile="planks")

    def floor(self) -> Material:
        """An indoor floor: boards, tiles, checkers, carpet, stone."""
        kind = self.rng.random()
        if kind < 0.38:
            return self.wood(self.between(0.7, 1.3), tile="planks")
        if kind < 0.6:
            color = self.hsv((0, 1), (0.0, 0.35), (0.45, 0.95))
            return self._material(color, "tiled", self.between(1.0, 2.4), self.between(0.35, 0.7), grunge=0.2, gloss=0.2)
        if kind < 0.75:
            light = self.hsv((0, 1), (0.0, 0.3), (0.6, 0.95))
            period = self.between(0.8, 2.4)
            return Material(self.hsv((0, 1), (0.0, 0.5), (0.1, 0.5)), light, "checker", (period, period), 0.2, 0.2)
        color = self.hsv((0, 1), (0.05, 0.5), (0.3, 0.8))
        tile = self.pick("speckle", "weave", "clouds", "marble", "plaid")
        return self._material(color, tile, self.between(0.8, 2.0), self.between(0.4, 0.8), grunge=0.3)

    def ceiling(self) -> Material:
        """A light ceiling, sometimes with panels or boards."""
        color = self.hsv((0, 1), (0.0, 0.12), (0.75, 0.98))
        tile = self.pick("plaster", "plaster", "tiled", "planks")
        return self._material(color, tile, self.between(1.5, 2.4), self.between(0.7, 0.95), grunge=0.15)

    def wood(self, period: float = 0.5, tile: str = "grain") -> Material:
        """Wood from pale to dark."""
        color = self.hsv((0.04, 0.11), (0.25, 0.65), (0.3, 0.85))
        gloss = self.between(0.05, 0.3) if self.chance(0.4) else 0.0
        return self._material(color, tile, period, self.between(0.35, 0.65), grunge=0.2, gloss=gloss)

    def fabric(self, size: float = 1.0) -> Material:
        """Cloth of any colour, plain or patterned."""
        color = self.hsv((0, 1), (0.05, 0.7), (0.25, 0.9))
        tile = self.pick("speckle", "weave", "plaid", "stripes", "clouds", "dots", "leaves")
        return self._material(color, tile, size * self.between(0.25, 0.7), self.between(0.4, 0.85), grunge=0.25)

    def metal(self) -> Material:
        """Grey and glossy."""
        color = self.hsv((0.5, 0.65), (0.0, 0.15), (0.2, 0.8))
        return self._material(color, "plaster", 0.6, 0.85, grunge=0.2, gloss=self.between(0.3, 0.8))

    def books(self) -> Material:
        """A filled shelf."""
        return Material((0.02, 0.015, 0.01), self.hsv((0, 1), (0.1, 0.6), (0.5, 0.95)), "books", (0.9, 0.66), grunge=0.4)

    def drawers(self, width: float, height: float) -> Material:
        """A cabinet front whose panels fit ``width x height``."""
        color = self.hsv((0, 1), (0.0, 0.6), (0.3, 0.9))
        return Material(scaled(color, 0.35), color, "drawer", (max(width, 0.4), max(height, 0.4)), grunge=0.15)

    def picture(self) -> Material:
        """Something to hang on a wall."""
        tile = self.pick("poster", "poster", "leaves", "clouds", "uneven_stripes")
        size = self.between(0.5, 1.2)
        low, high = self.hsv((0, 1), (0.2, 0.9), (0.1, 0.5)), self.hsv((0, 1), (0.1, 0.8), (0.5, 0.95))
        return Material(low, high, tile, (size, size), 0.5)

    def ground(self) -> Material:
        """Open ground: grass, earth, sand, snow, gravel."""
        kind = self.pick("grass", "grass", "earth", "sand", "gravel", "snow")
        if kind == "grass":
            color = self.hsv((0.16, 0.33), (0.35, 0.7), (0.35, 0.7))
            return self._material(color, "grass", self.between(1.5, 3), self.between(0.25, 0.5), grunge=0.5)
        hue, saturation, value = {
            "earth": ((0.04, 0.1), (0.25, 0.55), (0.3, 0.6)),
            "sand": ((0.08, 0.13), (0.2, 0.45), (0.6, 0.9)),
            "gravel": ((0.05, 0.6), (0.0, 0.15), (0.4, 0.8)),
            "snow": ((0.55, 0.65), (0.0, 0.1), (0.85, 0.98)),
        }[kind]
        tile = {"earth": "clouds", "sand": "speckle", "gravel": "gravel", "snow": "clouds"}[kind]
        return self._material(
            self.hsv(hue, saturation, value), tile, self.between(1.5, 4), self.between(0.45, 0.8), grunge=0.45
        )

    def paving(self) -> Material:
        """Streets, paths and squares."""
        tile = self.pick("speckle", "gravel", "cobbles", "tiled", "blocks", "clouds")
        color = self.hsv((0.02, 0.65), (0.0, 0.2), (0.3, 0.75))
        return self._material(color, tile, self.between(1.2, 3.0), self.between(0.4, 0.75), grunge=0.4)

    def facade(self, storey: float) -> Material:
        """The front of a building; four or five storeys of ``storey`` metres a tile."""
        color = self.hsv((0, 1), (0.0, 0.45), (0.5, 0.95))
        tile, storeys = ("facade", 4) if self.chance(0.65) else ("bands", 5)
        glass = self.hsv((0.5, 0.65), (0.1, 0.5), (0.05, 0.3))
        return Material(glass, color, tile, (storey * storeys * self.between(0.7, 1.1), storey * storeys), grunge=0.25)

    def masonry(self) -> Material:
        """Bricks, stone or render out of doors."""
        tile = self.pick("bricks", "bricks", "blocks", "cobbles", "plaster", "planks")
        color = self.hsv((0.0, 0.12), (0.05, 0.55), (0.45, 0.85))
        period = self.between(0.9, 2.2)
        return Material(scaled(color, self.between(0.35, 0.7)), color, tile, (period, 0.65 * period), grunge=0.35)

    def foliage(self, size: float) -> Material:
        """Leaves in green, sometimes in autumn colours."""
        hue = (0.2, 0.38) if self.chance(0.8) else (0.02, 0.14)
        color = self.hsv(hue, (0.4, 0.8), (0.3, 0.7))
        return self._material(color, "leaves", size * self.between(1.0, 1.8), self.between(0.1, 0.3), grunge=0.4)

    def bark(self) -> Material:
        """A trunk."""
        return self._material(self.hsv((0.04, 0.1), (0.15, 0.5), (0.25, 0.55)), "grass", 0.7, 0.35, grunge=0.3)

    def rock(self, size: float) -> Material:
        """Stone with blotches."""
        color = self.hsv((0.02, 0.15), (0.0, 0.3), (0.35, 0.75))
        return self._material(color, self.pick("clouds", "plaster", "marble"), size * self.between(0.8, 2), 0.4, grunge=0.4)
