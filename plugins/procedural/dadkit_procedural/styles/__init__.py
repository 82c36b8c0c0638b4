"""The kinds of scenes: each builds a :class:`~dadkit_procedural.styles.draft.Draft` from a palette's random numbers."""

from __future__ import annotations

from collections.abc import Callable

from dadkit_procedural.palette import Palette
from dadkit_procedural.styles.draft import Draft
from dadkit_procedural.styles.indoors import corridor, hall, room
from dadkit_procedural.styles.outdoors import land, street
from dadkit_procedural.styles.still_life import objects

__all__ = ["STYLES"]

STYLES: dict[str, Callable[[Palette], Draft]] = {
    "room": room,
    "corridor": corridor,
    "hall": hall,
    "street": street,
    "land": land,
    "objects": objects,
}
"""Name -> builder; datasets draw all of them equally often unless told otherwise."""
