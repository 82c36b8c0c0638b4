"""Small residual networks with random weights and statistics in which nothing is dead."""

from __future__ import annotations

import dadkit_leres.keys
import dadkit_leres.model
import pytest
import torch
from dadkit_leres.model import LeReS
from dadkit_leres.network import ENCODERS, ResidualNet
from torch import nn

torch.set_num_threads(1)

_SMALL = {"levels": (32, 48, 64, 96), "widths": (16, 16, 16, 24)}
EXTRA = {
    "mini": ResidualNet((1, 1, 2, 1), **_SMALL),
    "mini-next": ResidualNet((1, 2, 1, 1), groups=4, group_width=16, **_SMALL),
}


@pytest.fixture(autouse=True)
def _extra_encoders(monkeypatch):
    for module in (dadkit_leres.model, dadkit_leres.keys):
        monkeypatch.setattr(module, "ENCODERS", {**ENCODERS, **EXTRA})


@pytest.fixture
def randomise():
    """``randomise(module, seed)``: batch statistics and biases random too, convolutions by fan-in."""

    def make(module: nn.Module, seed: int = 0) -> nn.Module:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for part in module.modules():
                if isinstance(part, nn.BatchNorm2d):
                    part.running_mean.normal_(std=0.2, generator=generator)
                    part.running_var.uniform_(0.5, 1.5, generator=generator)
                    part.weight.normal_(1.0, 0.2, generator=generator)
                    part.bias.normal_(std=0.2, generator=generator)
                elif isinstance(part, nn.Conv2d):
                    part.weight.normal_(std=(1.5 / part.weight[0].numel()) ** 0.5, generator=generator)
                    if part.bias is not None:
                        part.bias.normal_(std=0.2, generator=generator)
        return module

    return make


@pytest.fixture
def build(randomise):
    """``build("mini", **options)``: a model in eval mode with random weights from a seed."""

    def make(encoder: str, *, seed: int = 0, **options: object) -> LeReS:
        torch.manual_seed(seed)
        return randomise(LeReS(encoder, **options).eval(), seed)

    return make


@pytest.fixture
def official():
    """``official(model)``: its state dict under the names of a released checkpoint."""

    def make(model: LeReS) -> dict[str, torch.Tensor]:
        return {
            "module.depth_model."
            + name.replace("encoder.", "encoder_modules.encoder.", 1).replace("decoder.", "decoder_modules.", 1): tensor
            for name, tensor in model.state_dict().items()
        }

    return make
