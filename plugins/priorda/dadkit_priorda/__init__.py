"""Prior Depth Anything for dadkit, as a completer. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

_SIZES = {
    "tiny": "1.9 M parameters, no released weights: for tests and demos",
    "small": "ViT-S/14, 24.9 M parameters",
    "base": "ViT-B/14, 97.6 M parameters",
}


@dadkit.hookimpl
def register_completers(register: Register) -> None:
    """Name the sizes."""
    for size, summary in _SIZES.items():
        register(
            size,
            "dadkit_priorda.model:PriorDepthAnything",
            api=1,
            summary=f"Prior Depth Anything 1.1, {summary}",
            license="Apache-2.0",
            config=f"dadkit_priorda.options:{'Options' if size == 'tiny' else 'ReleasedOptions'}",
            arguments={"size": size},
            requires=["dadkit[priorda]"],
        )
