"""What dadkit expects of any student."""

from __future__ import annotations

import copy

import pytest
import torch
from dadkit_topformer.model import TopFormerDepth
from dadkit_topformer.sizes import SIZES

from dadkit.interfaces import FrozenTeacher
from dadkit.spaces import Space


def images(count: int = 2, height: int = 96, width: int = 128, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("injection", ["all", "official", "none"])
def test_gradient_reaches_every_parameter(build, size, injection):
    model = build(size, injection=injection).train()
    model(images(2, 128, 128)).depth.square().mean().backward()
    assert [n for n, p in model.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0] == []


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_random_weights_start_positive_and_alive(size, training):
    torch.manual_seed(1)
    model = TopFormerDepth(size).train(training)
    noise = images()
    for x in (noise, torch.zeros_like(noise), torch.ones_like(noise)):
        assert model(x).depth.min() > 0.1
    assert model(noise).depth.std() > 1e-3


def test_disparity_is_never_negative_and_never_flat(build):
    model = build("tiny")
    torch.nn.init.constant_(model.decoder.output[-1].bias, -30.0)
    depth = model(images()).depth
    assert depth.min() >= 0
    (gradient,) = torch.autograd.grad(depth.sum(), model.decoder.output[-1].bias)
    assert gradient.abs() > 0
    assert model.spec.range == (0.0, None)


def test_affine_depth_is_unbounded(build):
    model = build("tiny", space="depth")
    assert model.spec.space is Space.DEPTH
    assert model.spec.range == (None, None)
    torch.nn.init.constant_(model.decoder.output[-1].bias, -30.0)
    assert model(images()).depth.max() < 0


@pytest.mark.parametrize(("height", "width"), [(32, 32), (64, 96), (1, 40), (97, 131), (160, 160), (224, 352)])
@pytest.mark.parametrize("injection", ["all", "official", "none"])
def test_any_size(build, injection, height, width):
    model = build("tiny", injection=injection)
    prediction = model(images(2, height, width))
    assert prediction.depth.shape == (2, 1, height, width)
    assert prediction.depth.isfinite().all()
    assert prediction.space is Space.DISPARITY
    assert prediction.features["tokens"].shape[2] == model.spec.features["tokens"]


def test_tokens_cover_the_image_at_stride_64(build):
    model = build("tiny")
    assert model(images(2, 160, 224)).features["tokens"].shape == (2, 3 * 4, 208)


@pytest.mark.parametrize("injection", ["all", "official", "none"])
def test_levels_are_taps_at_their_strides(build, injection):
    model = build("tiny", injection=injection)
    answer = model(images(1, 64, 96)).features
    assert list(answer) == list(model.spec.features)
    for stride in (4, 8, 16, 32):
        level = answer[f"stride{stride}"]
        assert level.shape == (1, model.spec.features[f"stride{stride}"], 64 // stride, 96 // stride)


def test_parameter_groups(build):
    model = build("tiny")
    encoder, decoder = model.param_groups()
    assert (encoder["name"], decoder["name"]) == ("encoder", "decoder")
    parts = [*model.backbone.tpm.parameters(), *model.backbone.trans.parameters()]
    assert {id(p) for p in encoder["params"]} == {id(p) for p in parts}
    assert {id(p) for p in encoder["params"] + decoder["params"]} == {id(p) for p in model.parameters()}
    assert len(encoder["params"]) + len(decoder["params"]) == len(list(model.parameters()))


def test_one_image_does_not_touch_another(build):
    model, x = build("tiny"), images(3)
    with torch.inference_mode():
        together = model(x).depth
        assert (model(x[1:2]).depth - together[1:2]).abs().max() < 2e-5 * together.abs().max()


def test_deep_copy_is_equal_and_apart(build):
    model, x = build("tiny"), images()
    twin = copy.deepcopy(model)
    before = model(x).depth
    assert torch.equal(twin(x).depth, before)
    torch.nn.init.zeros_(twin.decoder.join.weight)
    assert torch.equal(model(x).depth, before)
    assert not torch.equal(twin(x).depth, before)


def test_precisions(build):
    model, x = build("tiny"), images()
    with torch.inference_mode():
        exact = model(x).depth
        with torch.autocast("cpu", torch.bfloat16):
            auto = model(x).depth
        double = copy.deepcopy(model).double()(x.double()).depth
    assert exact.dtype == auto.dtype == double.dtype == torch.float32
    assert (double - exact).abs().max() < 1e-4 * exact.std()
    assert (auto - exact).abs().mean() < 0.2 * exact.std()


def test_channels_last_changes_nothing(build):
    model, x = build("tiny"), images()
    with torch.inference_mode():
        before = model(x).depth
        after = model.to(memory_format=torch.channels_last)(x.contiguous(memory_format=torch.channels_last)).depth
    assert (after - before).abs().max() < 1e-4 * before.abs().max()


def test_as_teacher(build):
    model = build("tiny")
    teacher = FrozenTeacher(copy.deepcopy(model)).train()
    statistics = teacher.model.backbone.tpm.stem[0].bn.running_mean.clone()
    x = images()
    assert torch.equal(teacher(x).depth, model(x).depth)
    assert torch.equal(teacher.model.backbone.tpm.stem[0].bn.running_mean, statistics)


def test_it_can_learn():
    """A ramp that goes up in bright images and down in dark ones; the best map blind to the image has an error of 0.25."""
    torch.manual_seed(0)
    model = TopFormerDepth("tiny")
    optimiser = torch.optim.AdamW(model.parameters(), lr=2e-3)
    bright = torch.tensor([True, False] * 4).view(8, 1, 1, 1)
    ramp = torch.linspace(0, 1, 64).view(1, 1, 64, 1)
    target = 2 + torch.where(bright, ramp, 1 - ramp)
    losses = []
    for step in range(30):
        x = torch.where(bright, 0.7, 0.1) + 0.2 * images(8, 64, 64, step)
        loss = (model(x).depth - target).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert sum(losses[-5:]) / 5 < 0.5 * 0.25


def test_native_size_keeps_the_aspect_ratio(build):
    assert build("tiny").spec.native.target(480, 640) == (448, 608)
    assert build("tiny", native_size=160).spec.native.target(480, 640) == (160, 224)
