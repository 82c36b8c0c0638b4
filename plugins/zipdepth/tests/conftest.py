"""Official files with random weights that depend on nothing but their names: the official code can be given the same."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

torch.set_num_threads(1)

HERE = Path(__file__).parent


def fill(name: str, shape: list[int]) -> Tensor:
    """A tensor for that name: convolutions by fan-in, norms and statistics near their usual values."""
    draw = np.random.default_rng(zlib.crc32(name.encode()))
    if name.endswith("num_batches_tracked"):
        return torch.tensor(1)
    if name in ("mean", "std"):
        values = (0.485, 0.456, 0.406) if name == "mean" else (0.229, 0.224, 0.225)
        return torch.tensor(values).view(1, 3, 1, 1)
    value = draw.standard_normal(shape)
    if len(shape) == 4:
        value *= (1.5 / np.prod(shape[1:])) ** 0.5
    elif name.endswith("running_var"):
        value = draw.uniform(0.5, 1.5, shape)
    else:
        value = 0.2 * value + name.endswith("weight") + 3 * (name == "decoder.head_half.bias")
    return torch.from_numpy(value).float()


@pytest.fixture(scope="session")
def official():
    """``official("convex")``: the state dict of the official code's base model, with the same random weights every time."""
    names = json.loads((HERE / "official_names.json").read_text())

    def make(upsampling: str) -> dict[str, Tensor]:
        return {name: fill(name, shape) for name, shape in {**names["both"], **names[upsampling]}.items()}

    return make


@pytest.fixture
def save(tmp_path):
    def write(state: object, name: str = "zipdepth.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write
