"""Depth from one step of a diffusion UNet, GenPercept and Lotus, as teachers. Importing this module loads no torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

import dadkit

if TYPE_CHECKING:
    from dadkit.plugin.hookspecs import Register

__all__ = ["LICENSE", "LOTUS_LICENSE", "register_teachers"]

LICENSE = "GenPercept: non-commercial academic use; Stable Diffusion 2.1: CreativeML-OpenRAIL++-M"
"""Of the released weights, by their README; the code here is our own."""
LOTUS_LICENSE = "Lotus: Apache-2.0 (code; the weights state none); Stable Diffusion 2: CreativeML-OpenRAIL++-M"
"""Of Lotus's code and of the weights that Lotus began with."""

_VARIANTS = {
    "vae": "the VAE's decoder gives the map",
    "dpt": "a DPT head on the UNet's features gives the map, at half the cost",
}


@dadkit.hookimpl
def register_teachers(register: Register) -> None:
    """Name the models and a tiny one. No space is registered: no file says it, so their option ``space`` must."""
    for name, summary in _VARIANTS.items():
        register(
            name,
            "dadkit_genpercept.model:GenPercept",
            api=1,
            summary=f"GenPercept: one step of Stable Diffusion's UNet, {summary}; its option space must be given",
            size_multiple=64,
            license=LICENSE,
            config=f"dadkit_genpercept.options:{name.upper()}Options",
            arguments={"variant": name},
            requires=["dadkit[genpercept]"],
        )
    register(
        "lotus",
        "dadkit_genpercept.model:GenPercept",
        api=1,
        summary="Lotus-D: one step of Stable Diffusion 2's UNet, map by the VAE's decoder; its option space must be given",
        size_multiple=64,
        license=LOTUS_LICENSE,
        config="dadkit_genpercept.options:LotusOptions",
        arguments={"variant": "lotus"},
        requires=["dadkit[genpercept]"],
    )
    register(
        "tiny",
        "dadkit_genpercept.model:GenPercept",
        api=1,
        summary="GenPercept or Lotus with networks of 3 M parameters in all, no released weights: for tests and demos",
        size_multiple=64,
        license="Apache-2.0",
        config="dadkit_genpercept.options:TinyOptions",
        arguments={"architecture": "tiny"},
        requires=["dadkit[genpercept]"],
    )
