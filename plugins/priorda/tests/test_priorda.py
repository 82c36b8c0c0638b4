"""The official function, its files, and what it refuses."""

from __future__ import annotations

import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from dadkit_priorda.model import PriorDepthAnything, coarse
from torch import Tensor
from torch.nn import functional as F

from dadkit.errors import DadkitError
from dadkit.interfaces import Hints, Prediction
from dadkit.spaces import Space, SpaceError

torch.set_num_threads(1)

# Made with the official code (version 1.1, ViT-S, at 126 pixels, without its random noise) in float64, with the weights of
# ``fill`` and the scene below: means of 12 x 12 pixels, in metres.
# fmt: off
DEPTH = [
    3.545777, 3.917193, 3.743993, 3.825455, 3.917281, 3.903549, 3.454175, 3.514623, 3.534176, 3.617471, 3.829449, 3.928597,
    3.812133, 3.340786, 3.655829, 3.627428, 3.70454, 3.572976, 3.459834, 3.366135, 3.313232, 4.342774, 4.395204, 3.54994,
    3.263472, 3.478087, 3.645259, 3.435606, 3.828382, 3.501289, 3.24587, 3.394829, 3.682225, 3.877632, 3.584454,
]
# fmt: on


def fill(name: str, shape: list[int]) -> Tensor:
    """A tensor for that name: matrices and convolutions by fan-in, norms near 1, a head whose answer is well above 0."""
    value = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape, dtype=np.float32)
    if re.search(r"norm\d?\.weight$", name):
        value = 1 + 0.2 * value
    elif name.endswith("gamma"):
        value = 0.3 * value
    elif name.endswith("alpha_proj.weight"):
        value = 0.01 * value  # conditions reach into the hundreds
    elif name.endswith("output_conv2.0.2.bias"):
        value = 3 + 0 * value
    else:
        value = value / np.prod(shape[1:]) ** 0.5 if len(shape) > 1 else 0.05 * value
    return torch.from_numpy(value)


@pytest.fixture(scope="module")
def official() -> dict[str, Tensor]:
    """The tensors of an official file, as training left them."""
    rows = json.loads((Path(__file__).parent / "official_names.json").read_text())
    names = [(name.replace("#", str(i)), shape) for name, first, end, shape in rows for i in range(first, end)]
    return {f"module.{name}": fill(name, shape) for name, shape in names}


@pytest.fixture
def save(tmp_path):
    def write(state: object, name: str = "prior_depth_anything_vits_1_1.pth") -> Path:
        torch.save({"model": state}, tmp_path / name)
        return tmp_path / name

    return write


def scene(height: int = 60, width: int = 84) -> tuple[Tensor, Hints, Prediction]:
    """A picture of a floor and a box, 40 points of it, and a relative disparity that bends."""
    rows = torch.linspace(0, 1, height, dtype=torch.float64)[:, None].expand(height, width)
    columns = torch.linspace(0, 1, width, dtype=torch.float64).expand(height, width)
    metres = 6 - 3.5 * rows + 0.5 * torch.sin(9 * columns)
    metres[10:30, 8:24] = 2.5
    relative = 3 * (1 + 0.3 * torch.sin(3 * columns + 2 * rows)) / metres + 0.8
    mask = torch.zeros(height * width, dtype=torch.bool)
    mask[torch.arange(40) * 7919 % (height * width)] = True
    waves = ((7 * rows + 5 * columns).sin() * 0.5 + 0.5, (11 * rows * columns).cos() * 0.5 + 0.5, (rows - columns).abs())
    images = (torch.stack(waves) * 255).round()[None].float() / 255
    hints = Hints(metres[None, None].float(), mask.view(1, 1, height, width))
    return images, hints, Prediction(relative[None, None].float(), Space.DISPARITY)


def test_it_is_the_official_function(official, save):
    model = PriorDepthAnything("small", weights=save(official), native_size=126)
    answer = model.complete(*scene())
    assert answer.space is Space.METRIC
    assert answer.valid.all()
    error = F.avg_pool2d(answer.depth, 12).flatten() / torch.tensor(DEPTH) - 1
    assert error.abs().max() < 1e-4


def test_files_that_are_not_this_models_are_refused(official, save):
    with pytest.raises(DadkitError, match=r"of version 1.0, and dadkit knows 1.1, whose files end in _1_1.pth"):
        PriorDepthAnything("small", weights=save(official, "prior_depth_anything_vits.pth"))
    with pytest.raises(DadkitError, match="It looks like Prior Depth Anything small: use priorda/small"):
        PriorDepthAnything("tiny", weights=save(official))
    with pytest.raises(DadkitError, match="It does not look like Prior Depth Anything"):
        PriorDepthAnything("tiny", weights=save({"conv.weight": torch.zeros(1)}))
    with torch.device("meta"):
        base = PriorDepthAnything("base").state_dict()
    assert len(base) == len(official)


def test_what_it_cannot_complete_is_refused():
    model, (images, hints, relative) = PriorDepthAnything("tiny"), scene()
    few = hints.valid & (hints.valid.flatten().cumsum(0).view_as(hints.valid) <= 4)
    with pytest.raises(DadkitError, match="needs at least 5 points in a picture, and one has 4"):
        model.complete(images, Hints(hints.depth, few), relative)
    with pytest.raises(SpaceError, match="affine depth has an unknown shift"):
        model.complete(images, hints, Prediction(relative.depth, Space.DEPTH))


def test_points_of_one_depth_and_a_flat_map_have_an_answer_that_follows_the_unit():
    model, (images, hints, relative) = PriorDepthAnything("tiny"), scene()
    flat = Prediction(torch.ones_like(relative.depth), Space.DISPARITY)
    one, ten = (model.complete(images, Hints(torch.full_like(hints.depth, z), hints.valid), flat).depth for z in (2.0, 20.0))
    assert torch.allclose(ten, 10 * one, rtol=1e-4)
    whole, local = coarse(torch.full((9, 9), 0.3).double(), torch.full((9, 9), 4.0).double(), torch.eye(9, dtype=torch.bool))
    assert torch.allclose(whole, torch.full_like(whole, 0.25))
    assert torch.allclose(local, torch.full_like(local, 0.25))
