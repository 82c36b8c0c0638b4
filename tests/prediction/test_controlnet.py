"""Conditions for diffusion models: near is white, whatever space the map is in."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.prediction.outputs import condition
from dadkit.spaces import Space

METRES = torch.linspace(1, 8, 33).expand(1, 47, 33)  # near at the left


@pytest.mark.parametrize(
    ("space", "depth"), [(Space.METRIC, METRES), (Space.DEPTH, 3 * METRES - 5), (Space.DISPARITY, 2 / METRES + 7)], ids=str
)
def test_near_is_white_in_every_space(space, depth):
    picture = condition(depth, space=space)
    assert picture.shape == (48, 32, 3)
    assert (picture == picture[..., :1]).all()
    assert (picture[:, 0].min(), picture[:, -1].max()) >= (245, 0)
    assert (np.diff(picture[0, :, 0].astype(int)) <= 0).all()
    if space is not Space.DEPTH:  # in metres and in disparity it is the same picture
        assert np.array_equal(picture, condition(METRES, space=Space.METRIC))


def test_what_is_no_depth_is_far_and_a_constant_map_is_grey():
    depth = METRES.clone()
    depth[:, :, :16] = torch.tensor([float("nan"), float("inf"), 0.0, -1.0]).repeat(4)
    picture = condition(depth, space=Space.METRIC)
    assert picture[:, :14].max() == 0
    assert picture[:, 18:].max() > 200
    valid = METRES > 4
    assert condition(METRES, space=Space.METRIC, valid=valid)[:, :10].max() == 0
    for constant in (torch.full((1, 32, 32), 2.0), torch.full((1, 32, 32), float("nan"))):
        assert (condition(constant, space=Space.METRIC) == 128).all()


def test_predict_writes_them(tmp_path, dadkit):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    answer = dadkit("predict", tmp_path / "a.png", "--model", "topformer/tiny", "-o", tmp_path / "out", "-f", "controlnet")
    assert answer.code == 0, answer.err
    picture = Image.open(tmp_path / "out" / "a.controlnet.png")
    assert (picture.size, picture.mode) == ((96, 64), "RGB")
    assert np.asarray(picture).min() == 0
