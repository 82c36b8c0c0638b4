"""Any hierarchical encoder of timm with a light decoder, as dadkit students. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name ``auto``, which takes any encoder."""
    register(
        "auto",
        "dadkit_timm.model:TimmStudent",
        api=1,
        summary="any encoder of timm that has maps of several sizes, by options.encoder",
        size_multiple=32,
        license="Apache-2.0",
        config="dadkit_timm.options:AutoOptions",
    )
