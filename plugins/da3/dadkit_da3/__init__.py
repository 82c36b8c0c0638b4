"""Depth Anything 3 for dadkit, as teachers and as students. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

# Name -> (space, licence of the released weights, summary).
_MODELS = {
    "tiny": ("depth", "Apache-2.0", "2 M parameters, of mono's kind, no released weights: for tests and demos"),
    "mono-large": ("depth", "Apache-2.0", "334 M parameters, affine depth and sky"),
    "metric-large": ("metric", "Apache-2.0", "334 M parameters, metres with a camera, and sky"),
    "small": ("scale", "Apache-2.0", "any-view model on one view, 26 M parameters, depth up to one factor and its camera"),
    "base": ("scale", "Apache-2.0", "any-view model on one view, 105 M parameters, depth up to one factor and its camera"),
    "large": ("scale", "CC-BY-NC-4.0", "any-view model on one view, 357 M parameters, depth up to one factor and its camera"),
    "giant": ("scale", "CC-BY-NC-4.0", "any-view model on one view, 1.2 G parameters, depth up to one factor and its camera"),
}


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name all models as teachers."""
    for name in _MODELS:
        options = "Metric" if name == "metric-large" else ""
        _register(register, name, f"{options}{'' if name == 'tiny' else 'Teacher'}Options")


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name as students what has no camera of its own."""
    for name in ("tiny", "mono-large"):
        _register(register, name, "StudentOptions")


def _register(register: Register, name: str, options: str) -> None:
    space, terms, summary = _MODELS[name]
    register(
        name,
        "dadkit_da3.model:DepthAnything3",
        api=2,
        summary=f"Depth Anything 3, {summary}",
        space=space,
        size_multiple=14,
        license=terms,
        config=f"dadkit_da3.options:{options}",
        arguments={"name": name},
    )
