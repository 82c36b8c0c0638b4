"""Names of released files onto our names: a bijection for every size and layout."""

from __future__ import annotations

import re

import pytest
import torch
from dadkit_dav2.keys import RULES, looks_like, to_model
from dadkit_dav2.model import DepthAnything
from dadkit_dav2.sizes import SIZES
from safetensors.torch import save_file

from dadkit.weights import locate

# Numbers of tensors in the official state dicts.
OFFICIAL = {"small": 239, "base": 239, "large": 407, "giant": 631}


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
def test_official_names_are_a_bijection(size, official_shapes):
    shapes = official_shapes(size)
    assert len(shapes) == OFFICIAL[size]
    own = shapes_of(on_meta(size).state_dict())
    places = [place for place in (locate(name, RULES) for name in shapes) if place is not None]
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


def test_looks_like(official_shapes):
    for size in OFFICIAL:
        assert looks_like(to_model(meta(official_shapes(size)))) == size
    assert looks_like({}) is None
