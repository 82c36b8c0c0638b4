"""TopFormer with a feature-fusion decoder, a small depth student. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

_SIZES = {
    "tiny": "for phones, and for training on a CPU",
    "small": "the middle size",
    "base": "the largest of the three",
}


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name the three sizes, and the point that the lightweight-distillation poster publishes."""
    for name, summary in _SIZES.items():
        register(
            name,
            "dadkit_topformer.model:TopFormerDepth",
            api=1,
            summary=f"TopFormer-{name[0].upper()} with an FFM decoder, {summary}",
            space="disparity",
            size_multiple=32,
            license="Apache-2.0",
            config="dadkit_topformer.options:Options",
            arguments={"size": name},
        )
    register(
        "poster",
        "dadkit_topformer.model:TopFormerDepth",
        api=1,
        summary="TopFormer-S with a wide FFM decoder, about the size of the lightweight paper's student (ICASSP 2024)",
        space="disparity",
        size_multiple=32,
        license="Apache-2.0",
        config="dadkit_topformer.options:FixedOptions",
        # 11.49 M parameters as published; the poster does not say the widths, these are our reconstruction.
        arguments={"size": "small", "injection": "all", "widths": (128, 192, 256, 384)},
    )
