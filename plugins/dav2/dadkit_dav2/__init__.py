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
    """Name the sizes as teachers, relative and metric."""
    _register(register, "Teacher")


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name the sizes as students, relative and metric."""
    _register(register, "Student")


def _register(register: Register, role: str) -> None:
    for metric in (False, True):
        options = "dadkit_dav2.options:" + ("Metric" if metric else "")
        for name, (terms, summary) in _SIZES.items():
            if metric and name == "giant":
                continue  # nobody has trained one
            register(
                f"{name}-metric" if metric else name,
                "dadkit_dav2.model:DepthAnything",
                api=1,
                summary=f"Depth Anything, {summary}" + ("; in metres up to max_depth" if metric else ""),
                space="metric" if metric else "disparity",
                size_multiple=14,
                license=terms,
                config=f"{options}{'' if (name, role) == ('tiny', 'Teacher') else role}Options",
                arguments={"size": name},
            )
