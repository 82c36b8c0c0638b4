"""Small sizes and random weights in which nothing is dead, shared by the tests of this plugin."""

from __future__ import annotations

import dadkit_dav2.keys
import dadkit_dav2.model
import pytest
import torch
from dadkit_dav2.keys import locate
from dadkit_dav2.model import DepthAnything
from dadkit_dav2.sizes import SIZES, Size
from torch import nn

torch.set_num_threads(1)

EXTRA = {
    # The official 37 x 37 grid on a network that takes milliseconds.
    "mini": Size(48, 4, 3, (0, 1, 2, 3), 16, (16, 16, 24, 24), "Apache-2.0", native=518),
    # 4096/1536 = 256/96: giant's kind of MLP.
    "mini-giant": Size(96, 5, 3, (1, 2, 3, 4), 16, (16, 16, 24, 24), "CC-BY-NC-4.0", native=126, swiglu=True),
}


@pytest.fixture(autouse=True)
def _extra_sizes(monkeypatch):
    for module in (dadkit_dav2.model, dadkit_dav2.keys):
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

    def make(name: str, model: DepthAnything | None = None, version: str = "v2") -> nn.Module:
        size = all_sizes[name]
        backbone = transformers.Dinov2Config(
            hidden_size=size.width,
            num_hidden_layers=size.depth,
            num_attention_heads=size.heads,
            image_size=size.native,
            patch_size=14,
            use_swiglu_ffn=size.swiglu,
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
        )
        theirs = transformers.DepthAnythingForDepthEstimation(config).eval()
        if model is not None:
            theirs.load_state_dict(_inverse(model.state_dict(), theirs.state_dict()))
        return theirs

    return make


def _inverse(ours: dict[str, torch.Tensor], theirs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    answer = {}
    for name, tensor in theirs.items():
        place = locate(name)
        answer[name] = tensor if place is None else ours[place.name].chunk(place.parts)[place.part]
    return answer
