"""The strategies reach the corners that they promise."""

from __future__ import annotations

import pytest
import torch
from hypothesis import find, given, settings
from hypothesis import strategies as st

from dadkit.testing.strategies import KINDS, MASKS, depth_maps, masks, pairs, shapes

PROFILE = settings(deadline=None, max_examples=400, derandomize=True, database=None)
CORNERS = {
    "a single pixel": (shapes(), lambda s: s == (1, 1, 1)),
    "a full mask": (masks((1, 5, 5), kinds=["full"]), lambda m: bool(m.all())),
    "an empty mask": (masks((1, 5, 5)), lambda m: not m.any()),
    "one valid pixel": (masks((1, 5, 5)), lambda m: int(m.sum()) == 1),
    "ties": (depth_maps((1, 5, 5)), lambda x: 1 < x.unique().numel() < 6),
    "a sky of zeros": (depth_maps((1, 9, 9)), lambda x: (x == 0).sum() > 9 and x.max() > 0.1),
    "a constant": (depth_maps((1, 5, 5)), lambda x: x.unique().numel() == 1),
    "an outlier": (depth_maps((1, 5, 5)), lambda x: x.max() > 1e5),
    "an offset": (depth_maps((1, 5, 5)), lambda x: x.min() > 1e3),
    "no mask": (pairs(), lambda p: p.mask is None and p.valid.all()),
}


@pytest.mark.parametrize("corner", CORNERS)
def test_corner_is_reached(corner):
    strategy, wanted = CORNERS[corner]
    find(strategy, wanted, settings=PROFILE)


@settings(settings.get_profile("losses"), max_examples=40)
@given(kind=st.sampled_from(KINDS), data=st.data(), dtype=st.sampled_from([torch.float32, torch.float64, torch.bfloat16]))
def test_maps_have_the_asked_shape_dtype_and_finite_values(kind, data, dtype):
    shape = data.draw(shapes())
    x = data.draw(depth_maps(shape, kinds=[kind], dtype=dtype))
    assert x.shape == shape
    assert x.dtype == dtype
    assert x.isfinite().all()
    mask = data.draw(masks(shape, kinds=[data.draw(st.sampled_from(MASKS))]))
    assert mask.shape == shape
    assert mask.dtype == torch.bool
