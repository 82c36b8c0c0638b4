"""Names of released files onto our names: a bijection for every size and layout."""

from __future__ import annotations

import re

import pytest
import torch
from dadkit_dav2.keys import locate, looks_like, to_model
from dadkit_dav2.model import DepthAnything
from dadkit_dav2.sizes import SIZES
from safetensors.torch import save_file

# name: width, blocks, features, channels, hidden width of the GELU MLP or None for SwiGLU: read off the official code.
OFFICIAL = {
    "small": (384, 12, 64, (48, 96, 192, 384), 239),
    "base": (768, 12, 128, (96, 192, 384, 768), 239),
    "large": (1024, 24, 256, (256, 512, 1024, 1024), 407),
    "giant": (1536, 40, 384, (1536, 1536, 1536, 1536), 631),
}


def official_shapes(size: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of the official state dict."""
    c, blocks, f, channels, _ = OFFICIAL[size]
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


def meta(shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes.items()}


def shapes_of(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def on_meta(size: str) -> DepthAnything:
    with torch.device("meta"):
        return DepthAnything(size)


def distill_any_depth_large(name: str) -> str:
    """That checkpoint's name for an official name."""
    name = re.sub(r"^pretrained\.blocks\.(\d+)", r"backbone.blocks.0.\1", name)
    return re.sub(r"^pretrained\.", "backbone.", name)


@pytest.mark.parametrize("size", OFFICIAL)
def test_official_names_are_a_bijection(size):
    shapes = official_shapes(size)
    assert len(shapes) == OFFICIAL[size][-1]
    own = shapes_of(on_meta(size).state_dict())
    places = [place for place in map(locate, shapes) if place is not None]
    assert len(places) == len(shapes) - 1  # the mask token
    assert len({place.name for place in places}) == len(places)
    assert shapes_of(to_model(meta(shapes))) == own
    assert shapes_of(to_model(meta({distill_any_depth_large(name): shape for name, shape in shapes.items()}))) == own


@pytest.mark.parametrize("size", OFFICIAL)
def test_names_in_the_memory_of_transformers(size, transformers_model):
    with torch.device("meta"):
        theirs = transformers_model(size).state_dict()
    assert shapes_of(to_model(theirs)) == shapes_of(on_meta(size).state_dict())


@pytest.mark.parametrize(("size", "millions"), [("small", 24.785), ("base", 97.471), ("large", 335.316), ("giant", 1258.132)])
def test_parameter_counts(size, millions):
    mask_token = SIZES[size].width
    count = sum(p.numel() for p in on_meta(size).parameters()) + mask_token
    assert round(count / 1e6, 3) == millions


@pytest.mark.parametrize("size", ["tiny", "mini-giant"])
def test_every_layout_gives_the_same_model(build, transformers_model, tmp_path, size):
    model = build(size)
    official = {**model.state_dict(), "pretrained.mask_token": torch.zeros(1, 8)}
    if size == "mini-giant":
        official = {re.sub(r"mlp\.fc(\d)", lambda m: "mlp." + {"1": "w12", "2": "w3"}[m[1]], k): v for k, v in official.items()}
    theirs = transformers_model(size, model)
    torch.save(official, tmp_path / "official.pth")
    torch.save({f"module.{name}": tensor for name, tensor in official.items()}, tmp_path / "parallel.pth")
    torch.save({"model": official, "epoch": 3}, tmp_path / "training.pth")
    save_file({distill_any_depth_large(k): v.clone() for k, v in official.items()}, tmp_path / "dad.safetensors")
    torch.save(theirs.state_dict(), tmp_path / "memory.pth")
    theirs.save_pretrained(tmp_path / "folder")
    sources = ["official.pth", "parallel.pth", "training.pth", "dad.safetensors", "memory.pth", "folder"]
    for source in sources:
        loaded = DepthAnything(size, weights=tmp_path / source).state_dict()
        assert loaded.keys() == model.state_dict().keys()
        assert all(torch.equal(loaded[name], tensor) for name, tensor in model.state_dict().items()), source


def test_looks_like():
    for size in OFFICIAL:
        assert looks_like(to_model(meta(official_shapes(size)))) == size
    assert looks_like({}) is None
