"""What dadkit expects of any model."""

from __future__ import annotations

import copy

import pytest
import torch
from dadkit_dav2.model import DepthAnything

from dadkit.interfaces import FrozenTeacher
from dadkit.spaces import Space


def images(count: int = 2, height: int = 126, width: int = 126, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("size", ["tiny", "mini"])
def test_random_weights_start_positive_everywhere(size, seed):
    torch.manual_seed(seed)
    model = DepthAnything(size)
    noise = images(1, 98, 126, seed)
    for x in (noise, torch.zeros_like(noise), torch.ones_like(noise), noise.round()):
        depth = model(x).depth
        assert depth.min() > 0.5
    depth = model(noise).depth
    assert depth.std() > 1e-3
    depth.std().backward()
    assert all(p.grad.abs().sum() > 0 for p in model.depth_head.scratch.output_conv2.parameters() if p.ndim == 4)


def test_answers_are_never_negative(build):
    model = build("mini")
    torch.nn.init.constant_(model.depth_head.scratch.output_conv2[2].bias, 0.0)
    depth = model(images()).depth
    assert depth.min() == 0
    assert depth.max() > 0
    assert model.spec.range == (0.0, None)


def test_gradient_reaches_every_trainable_parameter(build):
    model = build("tiny").train()
    model(images(seed=3)).depth.square().mean().backward()
    dead = {n for n, p in model.named_parameters() if p.requires_grad and not (p.grad is not None and p.grad.abs().sum() > 0)}
    assert not dead
    frozen = {n for n, p in model.named_parameters() if not p.requires_grad}
    unused = "depth_head.scratch.refinenet4.resConfUnit1."
    assert frozen == {unused + end for end in ("conv1.weight", "conv1.bias", "conv2.weight", "conv2.bias")}


def test_the_frozen_unit_takes_no_part(build):
    model = build("mini")
    before = model(images()).depth
    for parameter in model.depth_head.scratch.refinenet4.resConfUnit1.parameters():
        parameter.data.fill_(1e3)
    assert torch.equal(model(images()).depth, before)


def test_parameter_groups(build):
    model = build("tiny")
    encoder, decoder = model.param_groups()
    assert (encoder["name"], decoder["name"]) == ("encoder", "decoder")
    assert {id(p) for p in encoder["params"]} == {id(p) for p in model.pretrained.parameters()}
    trainable = [p for p in model.parameters() if p.requires_grad]
    assert {id(p) for p in encoder["params"] + decoder["params"]} == {id(p) for p in trainable}
    assert len(encoder["params"]) + len(decoder["params"]) == len(trainable)


def test_one_image_does_not_touch_another(build):
    model = build("mini")
    x = images(3, 98, 140)
    with torch.inference_mode():
        together = model(x).depth
        assert (model(x[1:2]).depth - together[1:2]).abs().max() < 2e-5 * together.abs().max()


@pytest.mark.parametrize(("height", "width"), [(14, 14), (1, 30), (97, 131), (126, 126), (98, 210)])
def test_any_size(build, height, width):
    prediction = build("mini")(images(2, height, width))
    assert prediction.depth.shape == (2, 1, height, width)
    assert prediction.depth.isfinite().all()
    assert prediction.space is Space.DISPARITY


def test_deep_copy_is_equal_and_apart(build):
    model = build("mini")
    twin = copy.deepcopy(model)
    x = images()
    before = model(x).depth
    assert torch.equal(twin(x).depth, before)
    torch.nn.init.zeros_(twin.pretrained.pos_embed)
    assert torch.equal(model(x).depth, before)


def test_precisions(build):
    model, x = build("mini"), images()
    with torch.inference_mode():
        exact = model(x).depth
        with torch.autocast("cpu", torch.bfloat16):
            auto = model(x).depth
        double = copy.deepcopy(model).double()(x.double()).depth
        half = copy.deepcopy(model).bfloat16()(x.bfloat16()).depth
    assert exact.dtype == auto.dtype == double.dtype == half.dtype == torch.float32
    spread = exact.std()
    assert (double - exact).abs().max() < 1e-4 * spread
    assert (auto - exact).abs().mean() < 0.1 * spread
    assert (half - exact).abs().mean() < 0.1 * spread


def test_channels_last_changes_nothing(build):
    model, x = build("tiny"), images()
    with torch.inference_mode():
        before = model(x).depth
        after = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last)).depth
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


def test_as_teacher(build):
    model = build("mini")
    teacher = FrozenTeacher(copy.deepcopy(model)).train()
    x = images(1, 99, 130).requires_grad_()
    prediction = teacher(x)
    assert not prediction.depth.requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
    assert torch.equal(prediction.depth, model(x).depth)  # the way back to 99 x 130 included


def test_licence_is_that_of_the_weights(build, tmp_path):
    torch.save(build("mini-giant").state_dict(), tmp_path / "w.pth")
    assert DepthAnything("mini-giant", weights=tmp_path / "w.pth").spec.license == "CC-BY-NC-4.0"
    assert DepthAnything("mini-giant").spec.license == "Apache-2.0"  # random weights are nobody's


def test_native_size_is_an_option():
    assert DepthAnything("tiny").spec.native.target(480, 640) == (126, 168)
    assert DepthAnything("tiny", native_size=154).spec.native.target(480, 640) == (154, 210)
