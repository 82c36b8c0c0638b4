"""Protocols: masks, spaces, invariances, and the real stereo pair of scikit-image."""

import pytest
import torch

from dadkit.errors import DadkitError
from dadkit.evaluation import load_protocol, protocol_names
from dadkit.interfaces import Prediction
from dadkit.spaces import Space, SpaceError, convert


@pytest.fixture
def scene():
    generator = torch.Generator().manual_seed(0)
    depth = torch.rand(2, 1, 12, 10, generator=generator) * 9 + 1
    depth[0, 0, :2] = torch.inf  # sky
    valid = torch.rand(2, 1, 12, 10, generator=generator) > 0.2
    return depth, valid


def test_every_protocol_loads_and_says_what_it_does():
    assert "affine-disparity" in protocol_names()
    for name in protocol_names():
        protocol = load_protocol(name)
        assert protocol.name == name
        assert len(protocol.summary) > 20


def test_unknown_protocol_has_a_near_miss():
    with pytest.raises(DadkitError, match="did you mean 'affine-disparity'"):
        load_protocol("affine-disparty")


def test_affine_distortion_of_true_disparity_is_undone(scene):
    depth, valid = scene
    disparity = torch.where(torch.isfinite(depth), 1 / depth, 0.0)
    scores = load_protocol("affine-disparity").score(Prediction(7 * disparity + 3, Space.DISPARITY), depth, valid)
    assert scores.metrics["abs_rel"].max() < 1e-5
    assert scores.metrics["delta1"].tolist() == [1, 1]
    assert scores.valid_pixels.tolist() == (valid & torch.isfinite(depth)).sum((1, 2, 3)).tolist()


def test_scale_and_shift_of_the_prediction_change_nothing(scene):
    depth, valid = scene
    guess = torch.rand(2, 1, 12, 10, generator=torch.Generator().manual_seed(3))
    protocol = load_protocol("affine-disparity")
    first = protocol.score(Prediction(guess, Space.DISPARITY), depth, valid)
    second = protocol.score(Prediction(guess * 40 - 8, Space.DISPARITY), depth, valid)
    for name, values in first.metrics.items():
        torch.testing.assert_close(second.metrics[name], values, rtol=1e-4, atol=1e-6)


def test_a_metric_prediction_fits_every_protocol(scene):
    depth, valid = scene
    for name in protocol_names():
        protocol = load_protocol(name)
        if protocol.task == "ordinal":
            continue
        truth, known = convert(depth, valid, Space.METRIC, protocol.truth_space)
        scores = protocol.score(Prediction(depth, Space.METRIC), truth, known)
        assert scores.metrics["abs_rel" if protocol.labels == "metric" else "ssi_mae"].max() < 1e-5, name


def test_affine_depth_is_refused_in_disparity(scene):
    depth, valid = scene
    with pytest.raises(SpaceError, match="unknown shift"):
        load_protocol("affine-disparity").score(Prediction(depth, Space.DEPTH), depth, valid)
    with pytest.raises(SpaceError, match="no metres"):
        load_protocol("metric").score(Prediction(depth, Space.DISPARITY), depth, valid)


def test_truth_outside_the_range_is_masked():
    depth = torch.tensor([[[[1e-4, 2.0, 3.0, 500.0]]]])
    valid = torch.ones_like(depth, dtype=torch.bool)
    assert load_protocol("metric").score(Prediction(depth, Space.METRIC), depth, valid).valid_pixels.tolist() == [2]


def test_measured_stereo_truth_against_itself():
    data = pytest.importorskip("skimage.data", reason="scikit-image carries the real stereo pair")
    _, _, disparity = data.stereo_motorcycle()
    disparity = torch.from_numpy(disparity.copy()).float()[None, None]
    valid = torch.isfinite(disparity)
    # Published calibration of the pair: focal length in pixels, baseline in metres, offset of the principal points.
    depth = torch.where(valid, 994.978 * 0.193001 / (disparity + 31.086), torch.nan)
    assert 2.1 < depth[valid].min() < depth[valid].max() < 5.03
    scores = load_protocol("affine-disparity").score(Prediction(disparity, Space.DISPARITY), depth, valid)
    assert scores.metrics["abs_rel"].item() < 1e-5
    assert scores.valid_pixels.item() == int(valid.sum())
