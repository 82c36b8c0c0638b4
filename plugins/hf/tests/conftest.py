"""Tiny models of the families with random weights and their own image processors, saved as transformers saves them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from dadkit_hf.model import AutoDepth
from torch import nn

transformers = pytest.importorskip("transformers")
torch.set_num_threads(1)

_NECK = {"neck_hidden_sizes": [8, 16, 24, 32], "fusion_hidden_size": 16}
_VIT = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2}
_HALVES = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def depth_anything(**more: Any) -> tuple[nn.Module, Any]:
    backbone = transformers.Dinov2Config(
        **_VIT, image_size=56, patch_size=14, out_indices=[1, 2, 3, 4], apply_layernorm=True, reshape_hidden_states=False
    )
    config = transformers.DepthAnythingConfig(
        backbone_config=backbone, patch_size=14, reassemble_hidden_size=32, head_hidden_size=8, **_NECK, **more
    )
    processor = transformers.DPTImageProcessor(
        size={"height": 56, "width": 56}, keep_aspect_ratio=True, ensure_multiple_of=14, resample=3
    )
    return transformers.DepthAnythingForDepthEstimation(config), processor


def depth_anything_metric() -> tuple[nn.Module, Any]:
    return depth_anything(depth_estimation_type="metric", max_depth=20)


def dpt(**more: Any) -> tuple[nn.Module, Any]:
    config = transformers.DPTConfig(
        **{**_VIT, "intermediate_size": 37, "image_size": 64, "patch_size": 16, "backbone_out_indices": [0, 1, 2, 3]},
        **_NECK,
        **{"is_hybrid": False, **more},
    )
    return transformers.DPTForDepthEstimation(config), transformers.DPTImageProcessor(
        size={"height": 64, "width": 64}, **_HALVES
    )


def dpt_dinov2() -> tuple[nn.Module, Any]:
    backbone = transformers.Dinov2Config(
        **_VIT, image_size=56, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False
    )
    return dpt(backbone_config=backbone)[0], transformers.DPTImageProcessor(size={"height": 56, "width": 56})


def zoedepth() -> tuple[nn.Module, Any]:
    backbone = transformers.BeitConfig(
        **_VIT,
        intermediate_size=37,
        image_size=64,
        patch_size=16,
        out_indices=[1, 2, 3, 4],
        use_relative_position_bias=True,
        reshape_hidden_states=False,
    )
    config = transformers.ZoeDepthConfig(
        backbone_config=backbone,
        **_NECK,
        bottleneck_features=16,
        num_relative_features=8,
        bin_embedding_dim=8,
        num_attractors=[4, 2, 2, 1],
        bin_configurations=[{"n_bins": 8, "min_depth": 0.001, "max_depth": 10, "name": "nyu"}],
    )
    processor = transformers.ZoeDepthImageProcessor(size={"height": 64, "width": 96}, ensure_multiple_of=32)
    return transformers.ZoeDepthForDepthEstimation(config), processor


def glpn() -> tuple[nn.Module, Any]:
    config = transformers.GLPNConfig(
        hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2], depths=[1, 1, 1, 1], decoder_hidden_size=16
    )
    return transformers.GLPNForDepthEstimation(config), transformers.GLPNImageProcessor()


def depth_pro(*, use_fov_model: bool = True) -> tuple[nn.Module, Any]:
    vit = {
        "model_type": "dinov2",
        "num_hidden_layers": 2,
        "hidden_size": 16,
        "num_attention_heads": 1,
        "patch_size": 4,
        "image_size": 32,
    }
    config = transformers.DepthProConfig(
        patch_size=32,
        patch_embeddings_size=4,
        scaled_images_ratios=[0.25, 0.5, 1],
        scaled_images_overlap_ratios=[0.0, 0.5, 0.25],
        scaled_images_feature_dims=[16, 16, 16],
        intermediate_hook_ids=[1, 0],
        intermediate_feature_dims=[16, 16],
        fusion_hidden_size=16,
        use_fov_model=use_fov_model,
        num_fov_head_layers=0,
        image_model_config=dict(vit),
        patch_model_config=dict(vit),
        fov_model_config=dict(vit),
    )
    processor = transformers.DepthProImageProcessor(size={"height": 128, "width": 128}, **_HALVES)
    return transformers.DepthProForDepthEstimation(config), processor


def depth_pro_without_view() -> tuple[nn.Module, Any]:
    return depth_pro(use_fov_model=False)


def prompt_depth_anything() -> tuple[nn.Module, Any]:
    theirs, processor = depth_anything()
    config = transformers.PromptDepthAnythingConfig(
        **{k: v for k, v in theirs.config.to_dict().items() if k not in ("model_type", "architectures", "transformers_version")}
    )
    return transformers.PromptDepthAnythingForDepthEstimation(config), processor


def tipsv2_dpt() -> tuple[nn.Module, Any]:
    backbone = transformers.Tipsv2VisionConfig(
        **_VIT, intermediate_size=37, image_size=56, patch_size=14, out_indices=[1, 2, 3, 4], reshape_hidden_states=False
    )
    config = transformers.Tipsv2DptConfig(backbone_config=backbone, num_depth_bins=16, **_NECK)
    processor = transformers.Tipsv2DptImageProcessor(size={"height": 56, "width": 56})
    return transformers.Tipsv2DptForDepthEstimation(config), processor


MODELS = {
    make.__name__: make
    for make in (
        depth_anything,
        depth_anything_metric,
        dpt,
        dpt_dinov2,
        zoedepth,
        glpn,
        depth_pro,
        depth_pro_without_view,
        prompt_depth_anything,
        tipsv2_dpt,
    )
}


def _randomise(model: nn.Module) -> None:
    """Every parameter random and alive, and answers of usual sizes."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if parameter.ndim > 1:
                parameter.copy_(noise * (1.5 / parameter[0].numel()) ** 0.5)
            elif "k_idx" not in name:
                parameter.add_(0.2 * noise)
            if name in ("head.conv3.bias", "head.head.4.bias"):
                parameter.fill_(2.0)  # above the last ReLU
        if getattr(model, "fov_model", None) is not None:
            last = [part for part in model.fov_model.head.modules() if isinstance(part, nn.Conv2d)][-1]
            last.weight.mul_(0.1)
            last.bias.fill_(60.0)  # degrees


@pytest.fixture
def saved(tmp_path):
    """``saved("dpt")``: (folder, the model of transformers in eval mode, its image processor)."""

    def make(name: str) -> tuple[Path, nn.Module, Any]:
        torch.manual_seed(0)
        model, processor = MODELS[name]()
        _randomise(model)
        folder = tmp_path / name
        model.save_pretrained(folder)
        processor.save_pretrained(folder)
        return folder, model.eval(), processor

    return make


@pytest.fixture
def adapted(saved):
    """``adapted("dpt", **options)``: (the adapter, the model of transformers, its image processor)."""

    def make(name: str, **options: Any) -> tuple[AutoDepth, nn.Module, Any]:
        folder, model, processor = saved(name)
        return AutoDepth(folder, **options), model, processor

    return make
