"""LeReS, affine depth from a residual network, as teachers and as students. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

__all__ = ["LICENSE", "register_students", "register_teachers"]

_ENCODERS = {
    "resnet50": "ResNet-50 encoder, 52.1 M parameters",
    "resnext101": "ResNeXt-101 32x8d encoder, the better one",
}
LICENSE = "Adobe Research License (LeReS weights: non-commercial research only, no redistribution)"
"""Of the released weights; the code here is our own."""


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name the two encoders as teachers."""
    _register(register, "TeacherOptions")


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name the two encoders as students."""
    _register(register, "Options")


def _register(register: Register, options: str) -> None:
    for name, summary in _ENCODERS.items():
        register(
            name,
            "dadkit_leres.model:LeReS",
            api=1,
            summary=f"LeReS, {summary}",
            space="depth",
            size_multiple=32,
            license=LICENSE,
            config=f"dadkit_leres.options:{options}",
            arguments={"encoder": name},
        )
