"""MiDaS v2.1, v3.0 and v3.1 for dadkit, as teachers and as students. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

# Name -> (official name, summary, options of the teacher, whether it is a student too). The architectures are in sizes.py.
_MODELS: dict[str, tuple[str | None, str, str, bool]] = {
    "dpt-beit-large-512": ("dpt_beit_large_512", "v3.1, BEiT-L at 512, 343 M parameters: the best one", "Teacher", True),
    "dpt-beit-large-384": ("dpt_beit_large_384", "v3.1, BEiT-L at 384, 342 M parameters", "Teacher", True),
    "dpt-beit-base-384": ("dpt_beit_base_384", "v3.1, BEiT-B at 384, 110 M parameters", "Teacher", True),
    "dpt-swin2-large-384": ("dpt_swin2_large_384", "v3.1, Swin2-L at 384 x 384, 211 M parameters", "Teacher", True),
    "dpt-swin2-base-384": ("dpt_swin2_base_384", "v3.1, Swin2-B at 384 x 384, 100 M parameters", "Teacher", True),
    "dpt-swin2-tiny-256": ("dpt_swin2_tiny_256", "v3.1, Swin2-T at 256 x 256, 40 M parameters", "Teacher", True),
    "dpt-swin-large-384": ("dpt_swin_large_384", "v3.1, Swin-L at 384 x 384, 211 M parameters", "Teacher", False),
    "dpt-next-vit-large-384": ("dpt_next_vit_large_384", "v3.1, Next-ViT-L at 384, 70 M parameters", "Teacher", False),
    "dpt-levit-224": ("dpt_levit_224", "v3.1, LeViT at 224 x 224 and no other size, 35 M parameters", "FixedTeacher", False),
    "dpt-large-384": ("dpt_large_384", "v3.0, ViT-L at 384, 342 M parameters", "Teacher", True),
    "dpt-hybrid-384": ("dpt_hybrid_384", "v3.0, ViT-B on a ResNet at 384, 121 M parameters", "Teacher", False),
    "v21-384": ("midas_v21_384", "v2.1, ResNeXt-101 at 384, 104 M parameters", "Teacher", False),
    "v21-small-256": ("midas_v21_small_256", "v2.1, EfficientNet-Lite3 at 256, 17 M parameters", "Teacher", True),
    "tiny": (None, "ViT at 128, no released weights: for tests and demos", "TinyTeacher", True),
    "tiny-conv": (None, "EfficientNet-Lite0 at 128, no released weights: for tests and demos", "TinyTeacher", True),
}


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name all models as teachers."""
    for name, (_, _, options, _) in _MODELS.items():
        _register(register, name, f"{options}Options")


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name those that train well as students."""
    for name, (_, _, _, student) in _MODELS.items():
        if student:
            _register(register, name, "StudentOptions")


def _register(register: Register, name: str, options: str) -> None:
    official, summary, _, _ = _MODELS[name]
    register(
        name,
        "dadkit_midas.model:Midas",
        api=1,
        summary=f"MiDaS {summary}",
        space="disparity",
        size_multiple=32,
        license="MIT" if official else "Apache-2.0",
        config=f"dadkit_midas.options:{options}",
        arguments={"size": name},
        aliases=[official] if official else [],
    )
