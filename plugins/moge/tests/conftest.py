"""Official files with random weights that depend on nothing but their names: the official code can be given the same."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import dadkit_moge.keys
import dadkit_moge.model
import numpy as np
import pytest
import torch
from dadkit_moge.sizes import ENCODERS, MODELS, Model
from torch import Tensor

torch.set_num_threads(1)

EXTRA = {
    "mini-v2": Model(ENCODERS["small"], (5, 11), (64, 48, 32, 32, 16), (0, 1, 1, 1, 0), (20, 80)),
    "mini-v1": Model(ENCODERS["small"], (8, 9, 10, 11), (64, 64, 32, 32), (), (20, 80)),
}
"""Narrow models on the smallest encoder that the official code builds: what the golden values are made with."""


@pytest.fixture(autouse=True)
def _extra_models(monkeypatch):
    for module in (dadkit_moge.model, dadkit_moge.keys):
        monkeypatch.setattr(module, "MODELS", {**MODELS, **EXTRA})


def fill(name: str, shape: list[int]) -> Tensor:
    """A tensor for that name: matrices and convolutions by fan-in, norms near 1, everything alive."""
    if name.endswith(("image_mean", "image_std")):
        values = (0.485, 0.456, 0.406) if name.endswith("mean") else (0.229, 0.224, 0.225)
        return torch.tensor(values).view(1, 3, 1, 1)
    value = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if name.endswith("gamma"):
        value = 0.3 * value
    elif len(shape) > 1:
        value = value / np.prod(shape[1:]) ** 0.5
    else:
        value = 0.1 * value + (name.endswith("weight"))
    return torch.from_numpy(np.asarray(value, dtype=np.float32))


@pytest.fixture(scope="session")
def official():
    """``official("v2")``: the tensors of such a file."""
    names = json.loads((Path(__file__).parent / "official_names.json").read_text())
    return lambda version: {name: fill(name, shape) for name, shape in names[version].items()}


@pytest.fixture
def save(tmp_path):
    def write(state: object, name: str = "model.pt"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write
