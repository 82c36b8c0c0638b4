"""Small sizes and random weights in which nothing is dead, shared by the tests of this plugin."""

from __future__ import annotations

import dadkit_dav2.keys
import dadkit_dav2.model
import dadkit_dav2.sizes
import pytest
import torch
from dadkit_dav2.keys import RULES
from dadkit_dav2.model import DepthAnything
from dadkit_dav2.sizes import SIZES, Size
from dadkit_dinov2.sizes import Size as EncoderSize
from torch import nn

from dadkit.weights import locate

torch.set_num_threads(1)

EXTRA = {
    # The official 37 x 37 grid on a network that takes milliseconds.
    "mini": Size(EncoderSize(48, 4, 3), (0, 1, 2, 3), 16, (16, 16, 24, 24), "Apache-2.0"),
    # 4096/1536 = 256/96: giant's kind of MLP.
    "mini-giant": Size(EncoderSize(96, 5, 3, native=126, swiglu=True), (1, 2, 3, 4), 16, (16, 16, 24, 24), "CC-BY-NC-4.0"),
}


@pytest.fixture(autouse=True)
def _extra_sizes(monkeypatch):
    for module in (dadkit_dav2.model, dadkit_dav2.keys, dadkit_dav2.sizes):
        monkeypatch.setattr(module, "SIZES", {**SIZES, **EXTRA})


def _randomise(module: nn.Module) -> None:
    """Every parameter random and alive: convolutions by fan-in, everything else near its usual value."""
    for parameter in module.parameters():
        with torch.no_grad():
            if parameter.ndim in (2, 4):
                parameter.normal_(std=(1.5 / parameter[0].numel()) ** 0.5)
            else:
                parameter.add_(0.2 * torch.randn_like(parameter))


@pytest.fixture
def build():
    """``build("mini", **options)``: a model in eval mode with random weights from a seed."""

    def make(size: str, *, seed: int = 0, **options: object) -> DepthAnything:
        torch.manual_seed(seed)
        model = DepthAnything(size, **options).eval()
        _randomise(model)
        return model

    return make


@pytest.fixture
def all_sizes():
    return {**SIZES, **EXTRA}


@pytest.fixture
def transformers_model(all_sizes):
    """``transformers_model("mini", model)``: transformers' model of that size, with the weights of ours if one is given."""
    transformers = pytest.importorskip("transformers")

    def make(name: str, model: DepthAnything | None = None, version: str = "v2", max_depth: float | None = None) -> nn.Module:
        size = all_sizes[name]
        backbone = transformers.Dinov2Config(
            hidden_size=size.width,
            num_hidden_layers=size.encoder.depth,
            num_attention_heads=size.encoder.heads,
            image_size=size.native,
            patch_size=14,
            use_swiglu_ffn=size.encoder.swiglu,
            out_indices=[tap + 1 for tap in size.tapped(version)],
            apply_layernorm=True,
            reshape_hidden_states=False,
        )
        config = transformers.DepthAnythingConfig(
            backbone_config=backbone,
            patch_size=14,
            reassemble_hidden_size=size.width,
            neck_hidden_sizes=list(size.channels),
            fusion_hidden_size=size.features,
            depth_estimation_type="relative" if max_depth is None else "metric",
            max_depth=max_depth or 1,
        )
        theirs = transformers.DepthAnythingForDepthEstimation(config).eval()
        if model is not None:
            theirs.load_state_dict(_inverse(model.state_dict(), theirs.state_dict()))
        return theirs

    return make


def _inverse(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    answer = {}
    for name, tensor in theirs.items():
        place = locate(name, RULES)
        answer[name] = tensor if place is None else place.take(ours)
    return answer


# name: width, blocks, features, channels: read off the official code.
OFFICIAL = {
    "small": (384, 12, 64, (48, 96, 192, 384)),
    "base": (768, 12, 128, (96, 192, 384, 768)),
    "large": (1024, 24, 256, (256, 512, 1024, 1024)),
    "giant": (1536, 40, 384, (1536, 1536, 1536, 1536)),
}


def _official_shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the official state dict."""
    c, blocks, f, channels = OFFICIAL[size]
    shapes: dict[str, tuple[int, ...]] = {}

    def add(name: str, *shape: int, bias: int | None = None) -> None:
        shapes[f"{name}.weight"] = shape
        if bias is not None:
            shapes[f"{name}.bias"] = (bias,)

    shapes["pretrained.cls_token"] = (1, 1, c)
    shapes["pretrained.pos_embed"] = (1, 1370, c)
    shapes["pretrained.mask_token"] = (1, c)
    add("pretrained.patch_embed.proj", c, 3, 14, 14, bias=c)
    for i in range(blocks):
        block = f"pretrained.blocks.{i}"
        add(f"{block}.norm1", c, bias=c)
        add(f"{block}.attn.qkv", 3 * c, c, bias=3 * c)
        add(f"{block}.attn.proj", c, c, bias=c)
        shapes[f"{block}.ls1.gamma"] = shapes[f"{block}.ls2.gamma"] = (c,)
        add(f"{block}.norm2", c, bias=c)
        if size == "giant":
            add(f"{block}.mlp.w12", 8192, c, bias=8192)
            add(f"{block}.mlp.w3", c, 4096, bias=c)
        else:
            add(f"{block}.mlp.fc1", 4 * c, c, bias=4 * c)
            add(f"{block}.mlp.fc2", c, 4 * c, bias=c)
    add("pretrained.norm", c, bias=c)
    for i, channel in enumerate(channels):
        add(f"depth_head.projects.{i}", channel, c, 1, 1, bias=channel)
        add(f"depth_head.scratch.layer{i + 1}_rn", f, channel, 3, 3)
        for unit in ("resConfUnit1", "resConfUnit2"):
            for conv in ("conv1", "conv2"):
                add(f"depth_head.scratch.refinenet{i + 1}.{unit}.{conv}", f, f, 3, 3, bias=f)
        add(f"depth_head.scratch.refinenet{i + 1}.out_conv", f, f, 1, 1, bias=f)
    add("depth_head.resize_layers.0", channels[0], channels[0], 4, 4, bias=channels[0])
    add("depth_head.resize_layers.1", channels[1], channels[1], 2, 2, bias=channels[1])
    add("depth_head.resize_layers.3", channels[3], channels[3], 3, 3, bias=channels[3])
    add("depth_head.scratch.output_conv1", f // 2, f, 3, 3, bias=f // 2)
    add("depth_head.scratch.output_conv2.0", 32, f // 2, 3, 3, bias=32)
    add("depth_head.scratch.output_conv2.2", 1, 32, 1, 1, bias=1)
    return shapes


@pytest.fixture
def official_shapes():
    """``official_shapes("small")``: name -> shape of that size's official state dict."""
    return _official_shapes
