"""Random weights and statistics in which nothing is dead."""

from __future__ import annotations

import pytest
import torch
from dadkit_topformer.model import TopFormerDepth
from torch import nn

torch.set_num_threads(1)


@pytest.fixture
def build():
    """``build("tiny", **options)``: a model in eval mode with random weights and batch statistics from a seed."""

    def make(size: str, *, seed: int = 0, **options: object) -> TopFormerDepth:
        torch.manual_seed(seed)
        model = TopFormerDepth(size, **options).eval()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                nn.init.normal_(module.running_mean, std=0.2)
                nn.init.uniform_(module.running_var, 0.5, 1.5)
                nn.init.normal_(module.weight, mean=1.0, std=0.2)
                nn.init.normal_(module.bias, std=0.2)
        return model

    return make
