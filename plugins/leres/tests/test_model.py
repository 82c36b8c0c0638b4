"""What dadkit expects of any model, what the plugin declares, and its options."""

from __future__ import annotations

import copy

import dadkit_leres
import pytest
import torch
from dadkit_leres.network import ENCODERS
from dadkit_leres.options import Options, TeacherOptions
from pydantic import ValidationError

import dadkit
from dadkit.interfaces import FrozenTeacher
from dadkit.spaces import Space


def images(count: int = 2, height: int = 64, width: int = 96, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


def test_gradient_reaches_every_parameter(build):
    model = build("mini").train()
    model(images()).depth.square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (1, 40), (97, 131)])
def test_any_size(build, height, width):
    model = build("mini")
    prediction = model(images(2, height, width))
    assert prediction.depth.shape == (2, 1, height, width)
    assert prediction.depth.isfinite().all()
    assert prediction.space is Space.DEPTH
    assert {name: tap.shape[1] for name, tap in prediction.features.items()} == model.spec.features


def test_predict_squeezes_the_image_into_a_square(build, monkeypatch):
    model = build("mini", native_size=64)
    assert build("mini").spec.native.target(480, 640) == (448, 448)
    x = images(1, 50, 80)
    square = torch.nn.functional.interpolate(x, (64, 64), mode="bilinear", align_corners=False)
    with torch.inference_mode():
        expected = torch.nn.functional.interpolate(model(square).depth, (50, 80), mode="bilinear", align_corners=False)
    assert torch.allclose(model.predict(x[0]).depth, expected, atol=1e-5)


def test_parameter_groups(build):
    model = build("mini")
    encoder, decoder = model.param_groups()
    assert (encoder["name"], decoder["name"]) == ("encoder", "decoder")
    assert {id(p) for p in encoder["params"]} == {id(p) for p in model.encoder.parameters()}
    assert {id(p) for p in decoder["params"]} == {id(p) for p in model.decoder.parameters()}


def test_one_image_does_not_touch_another(build):
    model, x = build("mini"), images(3)
    with torch.inference_mode():
        together = model(x).depth
        assert (model(x[1:2]).depth - together[1:2]).abs().max() < 2e-5 * together.abs().max()


def test_deep_copy_is_equal_and_apart(build):
    model, x = build("mini"), images(1)
    twin = copy.deepcopy(model)
    before = model(x).depth
    assert torch.equal(twin(x).depth, before)
    torch.nn.init.zeros_(twin.decoder.conv1.weight)
    assert torch.equal(model(x).depth, before)


def test_precisions(build):
    model, x = build("mini"), images(1)
    with torch.inference_mode():
        exact = model(x).depth
        with torch.autocast("cpu", torch.bfloat16):
            auto = model(x).depth
        double = copy.deepcopy(model).double()(x.double()).depth
    assert exact.dtype == auto.dtype == double.dtype == torch.float32
    assert (double - exact).abs().max() < 1e-4 * exact.std()
    assert (auto - exact).abs().mean() < 0.1 * exact.std()


def test_as_teacher(build):
    model = build("mini")
    teacher = FrozenTeacher(copy.deepcopy(model)).train()
    x = images(1)
    prediction = teacher(x.requires_grad_())
    assert not prediction.depth.requires_grad
    assert torch.equal(prediction.depth, model(x).depth)
    assert all(torch.equal(a, b) for a, b in zip(teacher.model.buffers(), model.buffers(), strict=True))


@pytest.mark.parametrize("hook", [dadkit_leres.register_teachers, dadkit_leres.register_students])
def test_declared_metadata_is_true(hook):
    found = {}
    hook(lambda name, target, **metadata: found.update({name: metadata}))
    assert found.keys() == ENCODERS.keys()
    for name, metadata in found.items():
        assert metadata["arguments"] == {"encoder": name}
        assert (metadata["space"], metadata["size_multiple"], metadata["api"]) == ("depth", 32, 1)
        assert "non-commercial" in metadata["license"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"init": "encoder"}, "needs weights: PATH"),
        ({"init": "none", "weights": "a.pth"}, "takes nothing from the weights given"),
        ({"native_size": 31}, "greater than or equal to 32"),
        ({"space": "disparity"}, "Extra inputs"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValidationError, match=message):
        Options(**options)


def test_a_teacher_must_be_given_weights():
    with pytest.raises(ValidationError, match="a teacher needs weights: give the path of a checkpoint, or `none`"):
        TeacherOptions()
    assert TeacherOptions(weights="none").weights is None


def test_by_name():
    with torch.device("meta"):
        student = dadkit.load_student("leres/resnet50", native_size=96)
    assert student.spec.native.target(480, 640) == (96, 96)
    assert student.spec.license == "Apache-2.0"
