"""Names of released files onto our names: a bijection for every size and layout."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from dadkit_dinov2.keys import RULES, hf_names, looks_like, to_encoder
from dadkit_dinov2.model import DINOv2

from dadkit.errors import DadkitError
from dadkit.weights import locate

RELEASED = {"small": 22.056192, "base": 86.579712, "large": 304.367616, "giant": 1136.479232}
TIMM = {size: f"vit_{size}_patch14_dinov2" for size in RELEASED}


def on_meta(size: str) -> dict[str, torch.Tensor]:
    with torch.device("meta"):
        return DINOv2(size).encoder.state_dict()


def shapes(state: dict[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in state.items()}


def official(state: dict[str, torch.Tensor], *, chunks: bool = False) -> dict[str, torch.Tensor]:
    """Our names as facebookresearch's."""
    width = state["cls_token"].shape[-1]
    swiglu = state["blocks.0.mlp.fc1.weight"].shape[0] != 4 * width
    names = {}
    for name, tensor in state.items():
        if swiglu:
            name = name.replace("mlp.fc1", "mlp.w12").replace("mlp.fc2", "mlp.w3")
        names[re.sub(r"^blocks\.", "blocks.0.", name) if chunks else name] = tensor
    return {**names, "mask_token": torch.empty(1, width, device=state["cls_token"].device)}


@pytest.mark.parametrize("size", RELEASED)
def test_parameter_counts(size):
    with torch.device("meta"):
        assert sum(p.numel() for p in DINOv2(size).parameters()) / 1e6 == RELEASED[size]


@pytest.mark.parametrize("size", RELEASED)
def test_every_layout_is_a_bijection(size, transformers_model):
    own = on_meta(size)
    with torch.device("meta"):
        in_timm = timm.create_model(TIMM[size], num_classes=0).state_dict()
        in_memory = transformers_model(size).state_dict()
    for state in (in_timm, in_memory, official(own), official(own, chunks=True)):
        assert shapes(to_encoder(state)) == shapes(own)
        places = [place for place in (locate(name, RULES) for name in state) if place is not None]
        assert len(set(places)) == len(places)
        assert looks_like(to_encoder(state)) == size


@pytest.mark.parametrize("size", ["small", "mini-giant"])
def test_names_for_hugging_face(size, transformers_model, tmp_path):
    """What is written in its names on disk is what its own writer writes, the mask token apart."""
    from safetensors import safe_open

    transformers_model(size).save_pretrained(tmp_path)
    with safe_open(tmp_path / "model.safetensors", framework="pt") as file:
        theirs = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    own = on_meta(size)
    ours = dict(hf_names(own, swiglu=size == "mini-giant"))
    assert set(theirs) - {"embeddings.mask_token"} == set(ours)
    for name, place in ours.items():
        assert tuple(place.take(own).shape) == theirs[name]


@pytest.mark.parametrize("name", ["register_tokens", "reg_token", "embeddings.register_tokens"])
def test_registers_are_refused(name):
    with pytest.raises(DadkitError, match=rf"holds '{name}': it is DINOv2 with registers"):
        to_encoder({"cls_token": torch.zeros(1, 1, 4), name: torch.zeros(1, 4, 4)})


def test_two_tensors_for_one_place():
    with pytest.raises(DadkitError, match=r"holds 'norm.bias' twice, as 'norm.bias' and as 'layernorm.bias'"):
        to_encoder({"norm.bias": torch.zeros(1), "layernorm.bias": torch.zeros(1)})
