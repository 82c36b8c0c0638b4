"""Official files with random weights that depend on nothing but their names: the official code can be given the same."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import dadkit_da3.keys
import dadkit_da3.model
import numpy as np
import pytest
import torch
from dadkit_da3.sizes import ENCODERS, MODELS, EncoderSize, Model
from torch import Tensor

torch.set_num_threads(1)

_THIN = (16, 32, 64, 64)
EXTRA = {
    "mono-small": Model(ENCODERS["small"], (2, 5, 8, 11), 64, (48, 96, 192, 384)),
    "large-thin": Model(EncoderSize(128, 24, 2), (11, 15, 19, 23), 32, _THIN, rotary_from=8),
    "giant-thin": Model(EncoderSize(192, 40, 3, swiglu=True), (19, 27, 33, 39), 32, _THIN, rotary_from=13),
}
"""What golden values are made with, beside ``small``: mono's kind on the small encoder; large and giant with their own depth,
taps and first rotary block (giant's is a global one), and giant's SwiGLU, on thin encoders. The official code builds them too.
base is small with other widths, and metric-large is mono-large."""


@pytest.fixture(autouse=True)
def _extra_models(monkeypatch):
    for module in (dadkit_da3.model, dadkit_da3.keys):
        monkeypatch.setattr(module, "MODELS", {**MODELS, **EXTRA})


@pytest.fixture(scope="session")
def shapes():
    """``shapes("small")``: (name, shape) of every tensor of an official file, without the ``model.`` before the names."""
    # Of each model rows (name, first, end, shape), where # in a name counts blocks.
    found = json.loads((Path(__file__).parent / "official_names.json").read_text())

    def expand(model: str) -> Iterator[tuple[str, list[int]]]:
        for pattern, first, end, shape in found[model]:
            for index in range(first, end):
                yield pattern.replace("#", str(index)), shape

    return expand


def fill(name: str, shape: list[int]) -> Tensor:
    """A tensor for that name: matrices and convolutions by fan-in, norms near 1, everything alive."""
    value = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if re.search(r"norm\d?\.weight$|output_conv2_aux\.\d\.2\.weight$", name):
        value = 1 + 0.2 * value
    elif name.endswith("gamma"):
        value = 0.3 * value
    elif len(shape) > 1:
        value = value / np.prod(shape[1:]) ** 0.5
    else:
        value = 0.05 * value
    return torch.from_numpy(value)


@pytest.fixture(scope="session")
def official(shapes):
    """``official("small")``: the tensors of such a file."""
    return lambda model: {name: fill(name, shape) for name, shape in shapes(model)}


@pytest.fixture
def save(tmp_path):
    def write(state: object, name: str = "model.pth"):
        torch.save(state, tmp_path / name)
        return tmp_path / name

    return write
