"""Colours by nearness, grids, bars."""

import numpy as np
import pytest
import torch

from dadkit import pictures
from dadkit.spaces import Space


def _warmth(picture):
    return picture[..., 0].astype(int) - picture[..., 2].astype(int)


@pytest.mark.parametrize(
    ("space", "values"),
    [(Space.DISPARITY, [1.0, 2.0, 3.0]), (Space.DEPTH, [3.0, 2.0, 1.0]), (Space.METRIC, [9.0, 3.0, 1.0])],
)
def test_near_is_warm_in_every_space(space, values):
    picture = pictures.colorize(torch.tensor([values]), space=space)
    warmth = _warmth(picture)[0]
    assert warmth[0] < 0 < warmth[2]


def test_invalid_and_non_finite_pixels_are_grey():
    values = torch.tensor([[1.0, float("nan"), 3.0, 4.0]])
    picture = pictures.colorize(values, space="disparity", valid=torch.tensor([[True, True, False, True]]))
    assert (picture[0, 1] == 128).all()
    assert (picture[0, 2] == 128).all()
    assert not (picture[0, 3] == 128).all()


def test_a_constant_and_an_empty_map_have_a_picture():
    assert pictures.colorize(torch.ones(4, 5), space="depth").shape == (4, 5, 3)
    blank = pictures.colorize(torch.full((4, 5), float("nan")), space="depth")
    assert (blank == 128).all()


def test_shared_limits_give_shared_colours():
    limits = (0.0, 10.0)
    one = pictures.colorize(torch.tensor([[2.0, 5.0]]), space="disparity", limits=limits)
    two = pictures.colorize(torch.tensor([[5.0, 9.0]]), space="disparity", limits=limits)
    assert (one[0, 1] == two[0, 0]).all()


def test_side_by_side_and_grid_sizes():
    image = torch.zeros(3, 40, 30, dtype=torch.uint8)
    picture = pictures.side_by_side(image, torch.rand(1, 40, 30) + 1, space="metric")
    assert picture.shape[0] == 40
    assert picture.shape[1] > 2 * 30
    tile = np.zeros((40, 30, 3), np.uint8)
    framed = pictures.grid([[tile, tile], [tile]], titles=["a", "b"], pad=2)
    assert framed.shape[1] == 2 * 30 + 3 * 2
    with pytest.raises(ValueError, match="share one size"):
        pictures.grid([[tile, tile[:10]]])


def test_titles_stay_within_their_columns():
    tile = np.full((100, 40, 3), 255, np.uint8)
    apart = pictures.grid([[tile, tile]], titles=["a very long name of a model", "b"])
    alone = pictures.grid([[tile, tile]], titles=["", "b"])
    second = 4 + 40 + 4
    assert (apart[:, second:] == alone[:, second:]).all()
    assert (apart[:20, 4:44] < 255).any()


def test_error_map_has_a_fixed_scale():
    truth = torch.full((1, 3), 2.0)
    prediction = torch.tensor([[2.0, 2.6, 20.0]])
    picture = pictures.error_map(prediction, truth, torch.ones(1, 3, dtype=torch.bool), top=0.3)
    assert (picture[0, 1] == picture[0, 2]).all()
    assert not (picture[0, 0] == picture[0, 1]).all()
