"""TCMonoDepth's small network for dadkit, as teacher and as student. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name the network as a teacher."""
    _register(register, "TeacherOptions")


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name the network as a student."""
    _register(register, "StudentOptions")


def _register(register: Register, options: str) -> None:
    register(
        "small",
        "dadkit_tcmono.model:TCSmallNet",
        api=1,
        summary="TCSmallNet: ShuffleNetV2 x0.5 at 256, 0.2 M parameters",
        space="disparity",
        size_multiple=32,
        license="MIT",
        config=f"dadkit_tcmono.options:{options}",
    )
