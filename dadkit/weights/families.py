"""Which model a file is of, by a few of the names in it: for the message about a file that was given to the wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["FAMILIES", "Family", "recognise"]


@dataclass(frozen=True)
class Family:
    """A family of models, and what tells its files.

    Attributes:
        words: what it is, for people.
        plugin: the plugin that reads such files; empty if none does.
        advice: what to do with one.
        marks: names, or parts of names, all of which occur in its files. A mark that begins with ``^`` begins a name.
    """

    words: str
    plugin: str
    advice: str
    marks: tuple[str, ...]


def _midas(words: str, component: str, *marks: str) -> Family:
    return Family(f"MiDaS {words}", "midas", f"use midas/{component}", (*marks, "^scratch."))


_SIZES = "small, base, large"
_VIT3 = "backbone.pretrained.blocks.0."
FAMILIES: tuple[Family, ...] = (
    # The first that fits is the answer, so what has more marks in common with others is further up.
    Family("Depth Anything 3 mono or metric", "da3", "use da3/mono-large or da3/metric-large", (_VIT3, ".sky_output_conv2.")),
    Family("MoGe 2", "moge", "use moge/… (v2-small, v2-base, v2-large)", ("^encoder.backbone.blocks.0.", "^points_head.")),
    Family("MoGe 1", "moge", "use moge/v1-large", ("^backbone.blocks.0.", "^head.upsample_blocks.")),
    Family("Depth Anything 3 any-view", "da3", f"use da3/… ({_SIZES}, giant)", (_VIT3, ".output_conv1_aux.")),
    Family(
        "Prior Depth Anything",
        "priorda",
        "it is a completer: dadkit predict --sparse POINTS --completer priorda/small or priorda/base",
        ("patch_embed.alpha_proj.", "depth_head.scratch."),
    ),
    Family(
        "Distill Any Depth large",
        "dav2",
        "use dav2/large",
        ("^backbone.blocks.0.0.", "^depth_head.scratch."),
    ),
    Family(
        "Depth Anything, as its authors publish it",
        "dav2",
        f"use dav2/… ({_SIZES}; with -metric for the metric ones)",
        ("^pretrained.blocks.0.", "^depth_head.scratch."),
    ),
    Family(
        "Depth Anything, as transformers publishes it",
        "dav2",
        f"use dav2/… ({_SIZES}; with -metric for the metric ones)",
        ("^backbone.encoder.layer.0.", ".layer_scale1.lambda1", "^neck.reassemble_stage.", "^head.conv3."),
    ),
    Family("DINOv2 with registers", "", "take the file of DINOv2 without registers", ("^register_tokens", "^blocks.0.")),
    Family("DINOv2 with registers", "", "take the file of DINOv2 without registers", ("^reg_token", "^blocks.0.ls1.")),
    Family("DINOv2 with registers", "", "take the file of DINOv2 without registers", ("embeddings.register_tokens",)),
    Family(
        "DINOv2",
        "dinov2",
        "it has no depth head; use dinov2/… as an encoder, or init: dinov2 with dav2/…",
        ("^blocks.0.", ".ls1.gamma", "^patch_embed.proj.", "^pos_embed"),
    ),
    Family(
        "DINOv2, as transformers publishes it",
        "dinov2",
        "it has no depth head; use dinov2/… as an encoder, or init: dinov2 with dav2/…",
        ("encoder.layer.0.layer_scale1.lambda1", "embeddings.position_embeddings"),
    ),
    _midas("v3.0 DPT-Hybrid", "dpt-hybrid-384", "^pretrained.model.patch_embed.backbone.", "^pretrained.act_postprocess"),
    _midas("v3.1 on BEiT", "dpt-beit-…", "^pretrained.model.blocks.0.attn.relative_position_bias_table"),
    _midas("v3.0 DPT-Large", "dpt-large-384", "^pretrained.model.blocks.0.", "^pretrained.act_postprocess"),
    _midas("v3.1 on Swin V2", "dpt-swin2-…", "^pretrained.model.layers.0.blocks.0.attn.logit_scale"),
    _midas("v3.1 on Swin", "dpt-swin-large-384", "^pretrained.model.layers.0.blocks.0."),
    _midas("v3.1 on LeViT", "dpt-levit-224", "^scratch.stem_transpose."),
    _midas("v3.1 on Next-ViT", "dpt-next-vit-large-384", "^pretrained.model.stem.", "^pretrained.model.features."),
    _midas("v2.1 small", "v21-small-256", "^pretrained.layer1.3.0.conv_dw"),
    _midas("v2.1", "v21-384", "^pretrained.layer1.4.0.conv1", "^pretrained.layer4."),
    Family("MiDaS DPT, as transformers publishes it", "midas", "use midas/dpt-…", ("^dpt.", "^neck.", "^head.head.")),
    Family(
        "ZoeDepth",
        "hf",
        "use hf/… with Intel/zoedepth-nyu, Intel/zoedepth-kitti or Intel/zoedepth-nyu-kitti: the same in transformers' layout",
        ("^core.core.", "^seed_bin_regressor."),
    ),
    Family(
        "a Stable Diffusion UNet, as GenPercept has it",
        "genpercept",
        "use genpercept/… with a folder of Stable Diffusion 2.1",
        ("^down_blocks.0.attentions.0.", "^up_blocks.", "^time_embedding."),
    ),
    Family(
        "GenPercept's DPT head",
        "genpercept",
        "use genpercept/… and give this file as its head",
        ("^feature_upsample_0.", "^neck.fusion_stage."),
    ),
    Family("TopFormer", "topformer", "use topformer/… (tiny, small, base)", ("tpm.stem.", "trans.transformer_blocks.0.")),
    Family("ZipDepth", "zipdepth", "use zipdepth/base", ("encoder.stem_half.conv.", "decoder.proj4.conv.")),
    Family("LeReS", "leres", "use leres/… (resnet50, resnext101)", ("encoder_modules.encoder.", "decoder_modules.")),
    Family("Depth Pro", "hf", "use hf/… with the version in transformers' layout", ("^encoder.patch_encoder.", "^fov.")),
)
"""Families of depth models and of what they are made from."""


def recognise(names: Iterable[str]) -> Family | None:
    """Returns the family of files with these names; None = none that is known here."""
    lines = "\n".join(["", *names, ""])
    return next((family for family in FAMILIES if all(_mark(mark) in lines for mark in family.marks)), None)


def _mark(mark: str) -> str:
    return f"\n{mark[1:]}" if mark.startswith("^") else mark
