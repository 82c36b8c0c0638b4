"""Procedural scenes with exact depth: rooms, corridors, halls, streets, open land and still lives, ray-cast on the CPU.

``scene`` says what a scene is, ``styles`` invents scenes, ``cast`` finds what each ray hits, ``shading`` lights it,
``dataset`` serves it. Only ``dataset`` knows torch, and it is imported when it is used; the renderer is numpy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

__all__ = ["register_datasets"]


@dadkit.hookimpl
def register_datasets(register: Register) -> None:
    """Name the dataset; as it bears the plugin's name, it is written ``procedural``."""
    register(
        "procedural",
        "dadkit_procedural.dataset:ProceduralScenes",
        api=1,
        space="metric",
        summary="rendered scenes with exact depth, endless",
    )
