"""The adapter against the same network in torch."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from dadkit_onnx.model import OnnxDepth
from torch.nn import functional as F

from dadkit.spaces import Space
from dadkit.testing import TeacherConformance
from dadkit.weights import WeightsError

OPEN = ["n", 3, "h", "w"]


def images(count=2, height=32, width=64):
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("shape", "options"),
    [(OPEN, {}), ([1, 3, 32, 64], {}), ([4, 3, "h", "w"], {}), (["n", "h", "w", 3], {"last": True}), (OPEN, {"squeeze": True})],
    ids=["open", "fixed", "batches of 4", "channels last", "no channel"],
)
def test_answers_are_the_networks(network, write, shape, options):
    model = OnnxDepth(write(shape, **options), space="disparity")
    x = images(3)
    assert torch.allclose(model(x).depth, network(x), rtol=1e-5)
    assert model(x).space is Space.DISPARITY


def test_input_range_and_statistics(network, write):
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    model = OnnxDepth(write(OPEN), space="depth", input_max=255, mean=mean, std=std)
    x = images()
    expected = network((x - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1) * 255)
    assert torch.allclose(model(x).depth, expected, rtol=1e-4, atol=1e-3)


def test_bytes_are_rounded(network, write):
    model = OnnxDepth(write(OPEN, dtype="UINT8"), space="disparity", input_max=255)
    x = images()
    assert torch.allclose(model(x).depth, network((x * 255).round()), rtol=1e-5)


def test_a_fixed_size_takes_every_image(network, write):
    model = OnnxDepth(write([1, 3, 32, 64]), space="disparity")
    x = images(1, 48, 50)
    small = F.interpolate(x, (32, 64), mode="bicubic", antialias=True).clamp(0, 1)
    expected = F.interpolate(network(small), (48, 50), mode="bilinear")
    assert torch.allclose(model(x).depth, expected, rtol=1e-4)
    assert torch.equal(model(x).depth, model.predict(x[0]).depth)
    assert model.seen_size(48, 50) == (32, 64)


def test_sizes_of_an_open_file(network, write):
    model = OnnxDepth(write(OPEN), space="disparity", size=64, size_multiple=16)
    assert model(images(1, 50, 70)).depth.shape == (1, 1, 50, 70)
    seen = []
    whole = model.estimate
    model.estimate = lambda x: (seen.append(tuple(x.shape)), whole(x))[1]
    model.predict(images(1, 100, 150)[0])
    model(images(1, 50, 70))
    assert seen == [(1, 3, 64, 96), (1, 3, 48, 64)]


def test_copies_open_the_file_again(write):
    model = OnnxDepth(write(OPEN), space="disparity", threads=2)
    x = images()
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(other(x).depth, model(x).depth)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"output": "depth"}, "no output 'depth', only map, flat"),
        ({"file": __file__}, "cannot be opened by onnxruntime"),
        ({"file": "nowhere.onnx"}, "no weight file at nowhere.onnx"),
    ],
)
def test_what_does_not_fit(write, change, message):
    with pytest.raises(WeightsError, match=message):
        OnnxDepth(**{"file": write(OPEN), "space": "disparity"} | change)


def test_a_file_that_takes_no_images(write):
    with pytest.raises(WeightsError, match=r"neither \(B, 3, H, W\) nor"):
        OnnxDepth(write(["n", 4, "h", "w"]), space="disparity")


@pytest.fixture(autouse=True, scope="module")
def _file_to_check(write):
    TestConformance.options = {"file": write(OPEN), "space": "disparity", "license": "CC0-1.0"}


class TestConformance(TeacherConformance):
    component = OnnxDepth
    conformance_version = 1
