"""Depth Anything V1 and V2 for dadkit, as teachers and as students. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

# Name -> (licence of the released weights, summary). The architectures themselves are in sizes.py.
_SIZES = {
    "tiny": ("Apache-2.0", "1.9 M parameters, no released weights: for tests and demos"),
    "small": ("Apache-2.0", "ViT-S/14, 24.8 M parameters"),
    "base": ("CC-BY-NC-4.0", "ViT-B/14, 97.5 M parameters"),
    "large": ("CC-BY-NC-4.0", "ViT-L/14, 335 M parameters"),
    "giant": ("CC-BY-NC-4.0", "ViT-g/14, 1.26 G parameters; its weights were never released"),
}


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name the five sizes as teachers."""
    _register(register, "TeacherOptions")


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name the five sizes as students."""
    _register(register, "Options")


def _register(register: Register, options: str) -> None:
    for name, (terms, summary) in _SIZES.items():
        register(
            name,
            "dadkit_dav2.model:DepthAnything",
            api=1,
            summary=f"Depth Anything, {summary}",
            space="disparity",
            size_multiple=14,
            license=terms,
            config=f"dadkit_dav2.options:{'Options' if name == 'tiny' else options}",
            arguments={"size": name},
        )
