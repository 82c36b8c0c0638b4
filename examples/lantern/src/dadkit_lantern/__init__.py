"""Depth from haze, and what goes with it. This module only names things: importing it loads no torch."""

import dadkit


@dadkit.hookimpl
def register_teachers(register):
    register(
        "haze",
        "dadkit_lantern.haze:Haze",
        api=1,
        summary="dark channel prior: the hazier, the farther",
        space="depth",
        license="MIT",
    )


@dadkit.hookimpl
def register_students(register):
    register(
        "hourglass",
        "dadkit_lantern.hourglass:Hourglass",
        api=1,
        summary="a small U-net, 0.1 M parameters",
        space="depth",
        size_multiple=8,
        license="MIT",
    )


@dadkit.hookimpl
def register_normalizers(register):
    register("deciles", "dadkit_lantern.deciles:Deciles", api=1, summary="between the first and the last decile")


@dadkit.hookimpl
def register_context_samplers(register):
    register("centred", "dadkit_lantern.centred:Centred", api=1, summary="squares that prefer the middle of the image")
