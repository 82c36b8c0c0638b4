"""dadkit's own small depth models, with their weights. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

_SUMMARIES = {
    "small": "EfficientNet-Lite0 at 256, 3.1 M parameters, weights included: the default of `dadkit predict`",
    "tiny": "the first four maps of EfficientNet-Lite0 at 256, 0.7 M parameters, weights included",
}


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name the models as teachers."""
    _register(register, "TeacherOptions")


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name the models as students, which go on from their weights."""
    _register(register, "StudentOptions")


def _register(register: Register, options: str) -> None:
    for name, summary in _SUMMARIES.items():
        register(
            name,
            "dadkit_starter.model:Starter",
            api=1,
            summary=summary,
            space="disparity",
            size_multiple=32,
            license="CC-BY-NC-4.0",
            config=f"dadkit_starter.options:{options}",
            arguments={"size": name},
        )
