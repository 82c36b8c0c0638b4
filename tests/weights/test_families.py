"""A file of the wrong model says which model it is of."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
import transformers
from torch import nn

import dadkit
from dadkit.weights import WeightsError, load_strict, recognise
from dadkit.weights.families import FAMILIES


def dinov2() -> transformers.Dinov2Config:
    return transformers.Dinov2Config(num_hidden_layers=4, out_indices=[1, 2, 3, 4], reshape_hidden_states=False)


# Real models, built without memory, whose names are the witness. What they are -> (how, the expected plugin, expected words).
REAL: dict[str, tuple[Callable[[], nn.Module], str | None, str]] = {
    "da-hf": (
        lambda: transformers.DepthAnythingForDepthEstimation(transformers.DepthAnythingConfig(backbone_config=dinov2())),
        "dav2",
        "Depth Anything, as transformers",
    ),
    "dinov2-hf": (lambda: transformers.Dinov2Model(dinov2()), "dinov2", "DINOv2, as transformers"),
    "dinov2-classifier": (lambda: transformers.Dinov2ForImageClassification(dinov2()), "dinov2", "DINOv2, as transformers"),
    "registers-hf": (
        lambda: transformers.Dinov2WithRegistersModel(transformers.Dinov2WithRegistersConfig(num_hidden_layers=2)),
        "",
        "with registers",
    ),
    "dinov2-timm": (lambda: timm.create_model("vit_small_patch14_dinov2", num_classes=0), "dinov2", "DINOv2"),
    "registers-timm": (lambda: timm.create_model("vit_small_patch14_reg4_dinov2", num_classes=0), "", "with registers"),
    "dpt-hf": (lambda: transformers.DPTForDepthEstimation(transformers.DPTConfig(num_hidden_layers=12)), "midas", "MiDaS DPT"),
    "topformer": (lambda: dadkit.load_student("topformer/tiny"), "topformer", "TopFormer"),
    "imagenet-vit": (lambda: timm.create_model("vit_tiny_patch16_224"), None, ""),
    "resnet": (lambda: timm.create_model("resnet18"), None, ""),
}


@pytest.mark.parametrize("name", REAL)
def test_real_models_are_recognised_by_their_names(name):
    build, plugin, words = REAL[name]
    with torch.device("meta"):
        names = list(build().state_dict())
    family = recognise(names)
    if plugin is None:
        assert family is None
    else:
        assert (family.plugin, words in family.words) == (plugin, True), family


OFFICIAL = {
    # Names as the official files have them: a few of each.
    "dav2": ["pretrained.cls_token", "pretrained.blocks.0.ls1.gamma", "depth_head.scratch.layer1_rn.weight"],
    "dav2/large": ["backbone.cls_token", "backbone.blocks.0.0.ls1.gamma", "depth_head.scratch.layer1_rn.weight"],
    "dinov2": ["cls_token", "pos_embed", "mask_token", "patch_embed.proj.weight", "blocks.0.ls1.gamma"],
    "registers": ["cls_token", "register_tokens", "pos_embed", "patch_embed.proj.weight", "blocks.0.ls1.gamma"],
    "dpt-large-384": [
        "pretrained.model.blocks.0.attn.qkv.weight",
        "pretrained.act_postprocess1.0.project.0.weight",
        "scratch.output_conv.0.weight",
    ],
    "dpt-hybrid-384": [
        "pretrained.model.blocks.0.attn.qkv.weight",
        "pretrained.model.patch_embed.backbone.stem.conv.weight",
        "pretrained.act_postprocess3.0.project.0.weight",
        "scratch.output_conv.0.weight",
    ],
    "dpt-beit": [
        "pretrained.model.blocks.0.attn.relative_position_bias_table",
        "pretrained.act_postprocess1.0.project.0.weight",
        "scratch.output_conv.0.weight",
    ],
    "dpt-swin2": ["pretrained.model.layers.0.blocks.0.attn.logit_scale", "scratch.output_conv.0.weight"],
    "dpt-swin-large": ["pretrained.model.layers.0.blocks.0.attn.qkv.weight", "scratch.output_conv.0.weight"],
    "v21-small": ["pretrained.layer1.3.0.conv_dw.weight", "scratch.output_conv.0.weight"],
    "v21-384": ["pretrained.layer1.4.0.conv1.weight", "pretrained.layer4.0.conv1.weight", "scratch.layer1_rn.weight"],
    "genpercept": [
        "conv_in.weight",
        "time_embedding.linear_1.weight",
        "down_blocks.0.attentions.0.norm.weight",
        "up_blocks.1.resnets.0.conv1.weight",
    ],
    "head": ["feature_upsample_0.conv.weight", "neck.fusion_stage.layers.0.projection.weight", "head.head.0.weight"],
    "leres": ["depth_model.encoder_modules.encoder.conv1.weight", "depth_model.decoder_modules.conv.weight"],
}


@pytest.mark.parametrize("expected", OFFICIAL)
def test_official_names_are_recognised(expected):
    family = recognise(OFFICIAL[expected])
    assert expected in f"{family.plugin} {family.words} {family.advice}"


def test_the_message_names_the_family_unless_the_caller_knows_better():
    state = {name: torch.zeros(1) for name in OFFICIAL["dpt-large-384"]}
    with pytest.raises(WeightsError, match=r"Its names are those of MiDaS v3\.0 DPT-Large: use midas/dpt-large-384\.$"):
        load_strict(nn.Linear(1, 1), state, source="w.pth")
    with pytest.raises(WeightsError) as error:
        load_strict(nn.Linear(1, 1), state, source="w.pth", hint="It is another size: use midas/tiny.")
    assert str(error.value).endswith("use midas/tiny.")
    renamed = {f"x{index}": torch.zeros(1) for index in range(3)}
    with pytest.raises(WeightsError, match="DPT-Large"):
        load_strict(nn.Linear(1, 1), renamed, source="w.pth", names=state)
    with pytest.raises(WeightsError) as error:
        load_strict(nn.Linear(1, 1), renamed, source="w.pth")
    assert "Its names" not in str(error.value)


def test_every_family_that_has_a_plugin_names_one_that_is_there():
    from dadkit.plugin import get_registry

    installed = {record.name for record in get_registry().plugins()}
    assert {family.plugin for family in FAMILIES} - {""} <= installed
