"""The core's own components, registered through the same hooks as everybody's; their names carry no prefix."""

from __future__ import annotations

from dadkit.plugin.hookspecs import Register, hookimpl

__all__ = ["register_context_samplers", "register_datasets", "register_losses", "register_normalizers"]


@hookimpl
def register_normalizers(register: Register) -> None:
    """The four normalizers of Distill Any Depth."""
    register(
        "hybrid", "dadkit.normalizers:Hybrid", api=1, summary="median and MAD over the whole range, its halves and its quarters"
    )
    register("global", "dadkit.normalizers:Global", api=1, summary="median and MAD over the whole map")
    register("local", "dadkit.normalizers:Local", api=1, summary="median and MAD over each quarter of the range")
    register("none", "dadkit.normalizers:Identity", api=1, summary="the maps as they are: L1 on raw values")


@hookimpl
def register_context_samplers(register: Register) -> None:
    """Where student and teacher look."""
    register("whole", "dadkit.contexts:Whole", api=1, summary="the whole image, once")
    register("shared", "dadkit.contexts:Shared", api=1, summary="one random square region, the same for both")
    register(
        "local-global",
        "dadkit.contexts:LocalGlobal",
        api=1,
        summary="one region for both, and overlapping patches of it for the teacher alone",
    )


@hookimpl
def register_losses(register: Register) -> None:
    """Terms that may stand under ``losses.extra``."""
    register("hybrid-norm", "dadkit.losses:HybridNormLoss", api=1, summary="L1 after hybrid normalisation (Distill Any Depth)")
    register("ssi", "dadkit.losses:SSILoss", api=1, summary="L1 after normalising the whole map: scale- and shift-invariant")
    register("local-norm", "dadkit.losses:LocalNormLoss", api=1, summary="L1 after normalising each quarter of the range")
    register("l1", "dadkit.losses:L1Loss", api=1, summary="L1 on the maps as they are")
    register("gradient-matching", "dadkit.losses:GradientMatchingLoss", api=1, summary="multi-scale gradient matching (MiDaS)")


@hookimpl
def register_datasets(register: Register) -> None:
    """Where images and true depth come from."""
    register("images", "dadkit.data:Images", api=1, summary="unlabelled images: folders, list files, tar shards")
    register("pairs", "dadkit.data:DepthPairs", api=1, summary="images with depth files of a declared encoding and space")
    register(
        "procedural", "dadkit.data:ProceduralScenes", api=1, space="metric", summary="rendered scenes with exact depth, endless"
    )
