"""Procedural scenes with exact depth: rooms, corridors, halls, streets, open land and still lives, ray-cast on the CPU.

``scene`` says what a scene is, ``styles`` invents scenes, ``cast`` finds what each ray hits, ``shading`` lights it,
``dataset`` serves it. Only ``dataset`` knows torch; the renderer is numpy.
"""

from __future__ import annotations

from dadkit.data.procedural.dataset import ProceduralScenes
from dadkit.data.procedural.render import Picture, render
from dadkit.data.procedural.scene import Scene
from dadkit.data.procedural.styles import STYLES

__all__ = ["STYLES", "Picture", "ProceduralScenes", "Scene", "render"]
