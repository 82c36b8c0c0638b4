"""Small sizes and random weights in which nothing is dead, shared by the tests of this plugin."""

from __future__ import annotations

import dadkit_dinov2.model
import pytest
import torch
import transformers
from dadkit_dinov2.keys import RULES
from dadkit_dinov2.model import DINOv2
from dadkit_dinov2.sizes import SIZES, Size
from torch import nn

from dadkit.weights import locate

torch.set_num_threads(1)

EXTRA = {
    "mini": Size(48, 3, 3),  # the official 37 x 37 grid on a network that takes milliseconds
    "mini-giant": Size(96, 2, 3, native=126, swiglu=True),  # 4096/1536 = 256/96: giant's kind of MLP
}


@pytest.fixture(autouse=True)
def all_sizes(monkeypatch):
    sizes = {**SIZES, **EXTRA}
    monkeypatch.setattr(dadkit_dinov2.model, "SIZES", sizes)
    return sizes


@pytest.fixture
def build():
    """``build("mini", **options)``: an encoder with random weights, every parameter alive."""

    def make(size: str, *, seed: int = 0, **options: object) -> DINOv2:
        torch.manual_seed(seed)
        model = DINOv2(size, **options)
        for parameter in model.parameters():
            with torch.no_grad():
                if parameter.ndim in (2, 4):
                    parameter.normal_(std=(1.5 / parameter[0].numel()) ** 0.5)
                else:
                    parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    return make


@pytest.fixture
def transformers_model(all_sizes):
    """``transformers_model("mini", model)``: transformers' DINOv2 of that size, with our weights if a model is given."""

    def make(name: str, model: DINOv2 | None = None) -> nn.Module:
        size = all_sizes[name]
        theirs = transformers.Dinov2Model(
            transformers.Dinov2Config(
                hidden_size=size.width,
                num_hidden_layers=size.depth,
                num_attention_heads=size.heads,
                image_size=size.native,
                patch_size=14,
                use_swiglu_ffn=size.swiglu,
            )
        ).eval()
        if model is not None:
            ours = model.encoder.state_dict()
            state = {}
            for theirs_name, tensor in theirs.state_dict().items():
                place = locate(theirs_name, RULES)
                state[theirs_name] = tensor if place is None else place.take(ours)
            theirs.load_state_dict(state)
        return theirs

    return make
