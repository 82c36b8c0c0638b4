"""DINOv2 for dadkit: frozen encoders that feature alignment may follow. Importing this module loads no torch.

The modules beside this one are public, for packages that build on DINOv2 and declare the dependency: ``sizes``,
``network``, ``dpt`` and ``keys``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

_SIZES = {
    "tiny": "1.3 M parameters, no released weights: for tests and demos",
    "small": "ViT-S/14, 22.1 M parameters",
    "base": "ViT-B/14, 86.6 M parameters",
    "large": "ViT-L/14, 304 M parameters",
    "giant": "ViT-g/14, 1.14 G parameters",
}


@dadkit.hookimpl
def register_encoders(register: Register) -> None:
    """Name the five sizes as feature encoders."""
    for name, summary in _SIZES.items():
        register(
            name,
            "dadkit_dinov2.model:DINOv2",
            api=1,
            summary=f"DINOv2, {summary}",
            size_multiple=14,
            license="Apache-2.0",
            config=f"dadkit_dinov2.options:{'Options' if name == 'tiny' else 'ReleasedOptions'}",
            arguments={"size": name},
        )
