"""MoGe for dadkit, as teachers. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

# Name -> (space, summary).
_MODELS = {
    "tiny": ("metric", "MoGe 2's kind, 2 M parameters, no released weights: for tests and demos"),
    "v1-large": ("scale", "MoGe 1, 314 M parameters: depth up to one factor, camera, validity"),
    "v2-small": ("metric", "MoGe 2, 35 M parameters: metres, camera, validity"),
    "v2-base": ("metric", "MoGe 2, 105 M parameters: metres, camera, validity"),
    "v2-large": ("metric", "MoGe 2, 326 M parameters: metres, camera, validity"),
}


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name all models as teachers."""
    for name, (space, summary) in _MODELS.items():
        register(
            name,
            "dadkit_moge.model:MoGe",
            api=2,
            summary=summary,
            space=space,
            size_multiple=14,
            license="MIT",
            config=f"dadkit_moge.options:{'Options' if name == 'tiny' else 'TeacherOptions'}",
            arguments={"name": name},
        )
