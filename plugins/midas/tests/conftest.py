"""Small sizes, and random weights in which nothing is dead."""

from __future__ import annotations

import dadkit_midas.keys
import dadkit_midas.model
import pytest
import torch
from dadkit_midas.model import Midas
from dadkit_midas.sizes import SIZES, Size
from torch import nn

torch.set_num_threads(1)

_SWIN = {"width": 24, "depths": (2, 2, 2, 2), "heads": (3, 3, 6, 6)}
_MAPS = (24, 48, 96, 192)
EXTRA = {
    "mini-vit": Size(
        "mini",
        "vit",
        64,
        "minimal",
        (8, 8, 16, 16),
        {"width": 48, "depth": 4, "heads": 3, "taps": (0, 1, 2, 3), "grid": 4},
        (16,) * 4,
    ),
    "mini-hybrid": Size(
        "mini",
        "hybrid",
        64,
        "minimal",
        (128, 256, 24, 24),
        {"width": 48, "depth": 3, "heads": 3, "taps": (1, 2), "grid": 4, "layers": (1, 1, 2), "stages": (128, 256, 512)},
        (16,) * 4,
    ),
    "mini-beit": Size(
        "mini",
        "beit",
        64,
        "minimal",
        (8, 8, 16, 16),
        {"width": 48, "depth": 4, "heads": 3, "taps": (0, 1, 2, 3), "grid": 4, "scale": 0.1},
        (16,) * 4,
    ),
    "mini-swin": Size("mini", "swin", 128, "exact", _MAPS, {**_SWIN, "window": 4}, (16,) * 4),
    "mini-swin2": Size(
        "mini", "swin2", 128, "exact", _MAPS, {**_SWIN, "window": 4, "pretrained_windows": (2, 2, 2, 2)}, (16,) * 4
    ),
    "mini-next-vit": Size("mini", "next-vit", 64, "minimal", (96, 256, 512, 1024), {"depths": (1, 2, 5, 1)}, (16,) * 4),
    "mini-levit": Size(
        "mini",
        "levit",
        64,
        "exact",
        (32, 48, 64),
        {"widths": (32, 48, 64), "depths": (2, 2, 2), "heads": (2, 3, 4), "key": 16},
        (32,) * 3,
        8,
    ),
    "mini-resnext": Size(
        "mini",
        "resnext",
        64,
        "upper_bound",
        (256, 512, 1024, 2048),
        {"layers": (1, 2, 1, 1), "cardinality": 4, "base_width": 4},
        (16,) * 4,
    ),
    "tiny-conv": SIZES["tiny-conv"],
}
"""One small model of each family; of v2.1 small the tiny one."""


@pytest.fixture(autouse=True)
def _small_and_repeatable(monkeypatch):
    torch.manual_seed(0)
    for module in (dadkit_midas.model, dadkit_midas.keys):
        monkeypatch.setattr(module, "SIZES", {**EXTRA, **SIZES})


@pytest.fixture(params=EXTRA)
def mini(request):
    """The name of a small model, of each family in turn."""
    return request.param


def _randomise(module: nn.Module) -> None:
    """Every parameter and statistic random and alive: weights by fan-in, tables large enough to matter."""
    for name, parameter in module.named_parameters():
        with torch.no_grad():
            if "table" in name or "biases" in name or "pos_embed" in name or "cls_token" in name:
                parameter.normal_(std=0.5)
            elif parameter.ndim in (2, 4):
                parameter.normal_(std=(1.2 / parameter[0].numel()) ** 0.5)
            else:
                parameter.add_(0.1 * torch.randn_like(parameter))
    for name, statistic in module.named_buffers():
        if name.endswith("running_mean"):
            statistic.normal_(std=0.1)
        if name.endswith("running_var"):
            statistic.uniform_(0.7, 1.3)


@pytest.fixture
def randomise():
    return _randomise


@pytest.fixture
def build():
    """``build("mini-vit", **options)``: a model in eval mode with random weights from a seed."""

    def make(size: str, *, seed: int = 0, **options: object) -> Midas:
        torch.manual_seed(seed)
        model = Midas(size, **options).eval()
        _randomise(model)
        return model

    return make


@pytest.fixture
def sizes():
    return {**EXTRA, **SIZES}
