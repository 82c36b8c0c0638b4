"""Any depth model of transformers as a dadkit teacher. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name the adapter. Space, sizes and licence are those of the model that its option ``weights`` names."""
    register(
        "auto",
        "dadkit_hf.model:AutoDepth",
        api=2,
        summary="any depth-estimation model of transformers, from a folder or the hub: Depth Pro, ZoeDepth, DPT, GLPN, …",
        config="dadkit_hf.options:Options",
        requires=["dadkit[hf]"],
    )
