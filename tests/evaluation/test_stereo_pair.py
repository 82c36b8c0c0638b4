"""Measured truth: scikit-image's stereo pair. Truth against itself through every alignment and metric gives exact answers."""

from __future__ import annotations

import pytest
import torch

from dadkit.alignment.affine import FITS
from dadkit.evaluation import Protocol, load_protocol, protocol_names
from dadkit.evaluation.metrics import DEPTH_METRICS
from dadkit.interfaces import Prediction
from dadkit.spaces import Space, convert

ALIGNMENTS = ["none", "scale-shift-regions", *FITS]


@pytest.fixture(scope="module")
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    """Depth in metres and validity, (1, 1, 500, 741) each."""
    data = pytest.importorskip("skimage.data", reason="scikit-image carries the real stereo pair")
    disparity = torch.from_numpy(data.stereo_motorcycle()[2].copy()).double()[None, None]
    valid = torch.isfinite(disparity)
    # Published calibration: focal length in pixels, baseline in metres, offset of the principal points.
    return torch.where(valid, 994.978 * 0.193001 / (disparity + 31.086), torch.nan), valid


def protocol(space: str, alignment: str) -> Protocol:
    return Protocol(
        name="x", summary="every metric", space=space, alignment=alignment, max_depth=100.0, metrics=tuple(DEPTH_METRICS)
    )


def perfect(name: str) -> float:
    return 1.0 if DEPTH_METRICS[name].higher_is_better else 0.0


def test_the_published_constants_give_the_published_range(pair):
    depth, valid = pair
    assert depth.shape == (1, 1, 500, 741)
    assert valid.double().mean().item() == pytest.approx(0.9265, abs=5e-4)
    assert depth[valid].min().item() == pytest.approx(2.11, abs=5e-3)
    assert depth[valid].max().item() == pytest.approx(5.02, abs=5e-3)


@pytest.mark.parametrize("space", ["disparity", "depth", "metric"])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_truth_against_itself(pair, space, alignment):
    depth, valid = pair
    scores = protocol(space, alignment).score(Prediction(depth.nan_to_num(1.0), Space.METRIC), depth, valid)
    assert scores.valid_pixels.item() == int(valid.sum())
    for name, value in scores.metrics.items():
        assert value.item() == pytest.approx(perfect(name), abs=1e-9), name
    measured = scores.depth[scores.valid]
    torch.testing.assert_close(measured, depth[valid], rtol=1e-12, atol=0)


@pytest.mark.parametrize(("scale", "shift"), [(7.0, -3.0), (-2.0, 40.0), (1e-3, 0.0), (250.0, 1e4)])
@pytest.mark.parametrize("space", ["disparity", "depth"])
@pytest.mark.parametrize("alignment", [a for a in ALIGNMENTS if a.startswith("scale-shift")])
def test_affine_distortions_are_undone(pair, space, alignment, scale, shift):
    depth, valid = pair
    values = (1 / depth if space == "disparity" else depth) * scale + shift
    prediction = Prediction(values.nan_to_num(0.0), Space(space))
    scores = protocol(space, alignment).score(prediction, depth, valid)
    for name, value in scores.metrics.items():
        assert value.item() == pytest.approx(perfect(name), abs=1e-6), name


@pytest.mark.parametrize("alignment", ["scale", "scale-lstsq"])
def test_factors_are_undone(pair, alignment):
    depth, valid = pair
    scores = protocol("depth", alignment).score(Prediction((3 * depth).nan_to_num(0.0), Space.DEPTH), depth, valid)
    assert scores.affine.scale.item() == pytest.approx(1 / 3, rel=1e-9)
    assert scores.metrics["abs_rel"].item() == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("name", [n for n in protocol_names() if load_protocol(n).task == "depth"])
def test_every_shipped_protocol_finds_truth_perfect(pair, name):
    depth, valid = pair
    truth, known = convert(depth, valid, Space.METRIC, load_protocol(name).truth_space)
    scores = load_protocol(name).score(Prediction(depth.nan_to_num(1.0), Space.METRIC), truth, known)
    assert scores.metrics[load_protocol(name).metrics[0]].item() in (pytest.approx(0, abs=1e-9), pytest.approx(1, abs=1e-9))


def test_the_choice_of_protocol_moves_the_number(pair):
    depth, valid = pair
    noise = 0.03 * torch.randn(depth.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    guess = Prediction((1 / depth + noise).nan_to_num(0.0), Space.DISPARITY)
    names = ("affine-disparity", "genpercept-disparity", "moge", "robust-disparity", "dav2-nyu")
    values = {name: load_protocol(name).score(guess, depth, valid).metrics["abs_rel"].item() for name in names}
    assert max(values.values()) > 1.01 * min(values.values())
    assert values["moge"] < values["affine-disparity"]  # its floor is the farthest truth
