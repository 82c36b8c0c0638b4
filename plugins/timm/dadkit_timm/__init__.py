"""Any hierarchical encoder of timm with a light decoder, as dadkit students. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register


# Name -> (timm's name with its tag, summary, licence of the encoder's weights).
_PRESETS = {
    "mobilenetv4-conv-small-050": ("mobilenetv4_conv_small_050.e3000_r224_in1k", "0.5 M parameters, 0.3 G", "Apache-2.0"),
    "mobilenetv4-conv-small": ("mobilenetv4_conv_small.e2400_r224_in1k", "1.5 M parameters, 0.4 G", "Apache-2.0"),
    "mobilenetv4-conv-medium": ("mobilenetv4_conv_medium.e500_r256_in1k", "7.4 M parameters, 1.3 G", "Apache-2.0"),
    "efficientnet-lite0": ("tf_efficientnet_lite0.in1k", "3.1 M parameters, 0.6 G", "Apache-2.0"),
    "efficientnet-lite3": ("tf_efficientnet_lite3.in1k", "6.6 M parameters, 1.2 G", "Apache-2.0"),
    "repvit-m0-9": ("repvit_m0_9.dist_300e_in1k", "4.9 M parameters, 1.2 G", "Apache-2.0"),
    "repvit-m1-1": ("repvit_m1_1.dist_300e_in1k", "7.9 M parameters, 1.9 G", "Apache-2.0"),
    "efficientvit-b0": ("efficientvit_b0.r224_in1k", "0.8 M parameters, 0.3 G", "Apache-2.0"),
    "efficientvit-b1": ("efficientvit_b1.r256_in1k", "4.8 M parameters, 0.8 G", "Apache-2.0"),
    "edgenext-xx-small": ("edgenext_xx_small.in1k", "1.3 M parameters, 0.4 G", "MIT"),
    "edgenext-small": ("edgenext_small.usi_in1k", "5.4 M parameters, 1.4 G", "MIT"),
    "convnext-atto": ("convnext_atto.d2_in1k", "3.5 M parameters, 0.9 G", "Apache-2.0"),
    "convnext-femto": ("convnext_femto.d1_in1k", "5.0 M parameters, 1.2 G", "Apache-2.0"),
}


@dadkit.hookimpl
def register_students(register: Register) -> None:
    """Name ``auto``, which takes any encoder, and good small encoders by name."""
    register(
        "auto",
        "dadkit_timm.model:TimmStudent",
        api=1,
        summary="any encoder of timm that has maps of several sizes, by options.encoder",
        size_multiple=32,
        license="Apache-2.0",
        config="dadkit_timm.options:AutoOptions",
    )
    for name, (encoder, summary, licence) in _PRESETS.items():
        register(
            name,
            "dadkit_timm.model:TimmStudent",
            api=1,
            summary=f"{encoder}: {summary} multiply-adds at 256",
            size_multiple=32,
            license=licence,
            config="dadkit_timm.options:StudentOptions",
            arguments={"encoder": encoder},
        )
