"""ZipDepth for dadkit, as teacher and as student. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

_SIZES = {
    "small": "1.5 M parameters, no released weights",
    "base": "6.1 M parameters at inference, the released size",
}


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name the released size as a teacher."""
    _register(register, "base", "TeacherOptions")


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name the sizes as students."""
    for size in _SIZES:
        _register(register, size, "Options")


def _register(register: Register, size: str, options: str) -> None:
    register(
        size,
        "dadkit_zipdepth.model:ZipDepth",
        api=1,
        summary=f"ZipDepth, {_SIZES[size]}",
        space="disparity",
        size_multiple=32,
        license="MIT",
        config=f"dadkit_zipdepth.options:{options}",
        arguments={"size": size},
    )
