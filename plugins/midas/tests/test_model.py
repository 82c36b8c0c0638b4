"""What dadkit expects of any model, of each family."""

from __future__ import annotations

import copy

import pytest
import torch
from dadkit_midas.model import Midas

from dadkit.interfaces import FrozenTeacher
from dadkit.spaces import Space


def images(count: int = 2, height: int = 64, width: int = 64, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(seed))


STUDENTS = ["mini-vit", "mini-beit", "mini-swin2", "tiny-conv", "tiny"]


@pytest.mark.parametrize("name", STUDENTS)
def test_random_weights_start_positive_everywhere(name):
    torch.manual_seed(0)
    model = Midas(name)
    noise = images(2, 64, 96)
    for x in (noise, torch.zeros_like(noise), torch.ones_like(noise), noise.round()):
        assert model(x).depth.min() > 0.5
    assert model.eval()(noise).depth.min() > 0.5


def test_answers_are_never_negative(build):
    model = build("mini-vit")
    torch.nn.init.constant_(model.decoder.head[2].bias, 0.0)
    for size in ((64, 64), (61, 90)):  # as it is, and resized, where cubic interpolation would go below
        depth = model(images(2, *size)).depth
        assert depth.min() == 0
        assert depth.max() > 0
    assert model.spec.range == (0.0, None)


@pytest.mark.parametrize("weights", ["as built", "trained"])
@pytest.mark.parametrize("name", STUDENTS)
def test_gradient_reaches_every_trainable_parameter(build, name, weights):
    torch.manual_seed(0)
    model = (Midas(name) if weights == "as built" else build(name)).train()
    model(images(seed=3, height=128, width=128)).depth.square().mean().backward()
    dead = {n for n, p in model.named_parameters() if p.requires_grad and not (p.grad is not None and p.grad.abs().sum() > 0)}
    assert not dead
    assert all(p.requires_grad for p in model.parameters())


def test_parameter_groups(mini, build):
    model = build(mini)
    encoder, decoder = model.param_groups()
    assert (encoder["name"], decoder["name"]) == ("encoder", "decoder")
    assert {id(p) for p in encoder["params"]} == {id(p) for p in model.backbone.parameters()}
    own = {id(p) for p in [*model.reassemble.parameters(), *model.decoder.parameters()]}
    assert {id(p) for p in decoder["params"]} == own
    assert len(encoder["params"]) + len(decoder["params"]) == len(list(model.parameters()))


def test_taps_are_what_the_spec_says(mini, build, sizes):
    model = build(mini)
    prediction = model(images(2, 64, 96))
    assert prediction.features.keys() == model.spec.features.keys() == {"tokens"}
    tap, width = prediction.features["tokens"], model.spec.features["tokens"]
    if sizes[mini].reassembled:
        assert tap.shape == (2, 4 * 6, width)
        assert torch.allclose(tap.mean(-1), torch.zeros(2, 24), atol=1e-5)
    else:
        assert tap.shape == ((2, width, 1, 1) if mini == "mini-levit" else (2, width, 2, 3))


def test_tokens_are_patches_row_by_row(build):
    """A change in one corner of the image changes the token of that corner most."""
    model = build("mini-vit")
    with torch.no_grad():
        for block in model.backbone.blocks:
            block.attn.proj.weight.mul_(0.01)
    x = images(1, 64, 96)
    changed = x.clone()
    changed[:, :, 32:48, 80:96] += 1.0
    difference = (model(changed).features["tokens"] - model(x).features["tokens"]).abs().sum(-1)
    assert difference.argmax() == 2 * 6 + 5


def test_one_image_does_not_touch_another(mini, build):
    model = build(mini)
    x = images(3, 64, 96)
    with torch.inference_mode():
        together = model(x).depth
        assert torch.allclose(model(x[1:2]).depth, together[1:2], atol=2e-5 * float(together.abs().max()))


@pytest.mark.parametrize(("height", "width"), [(1, 30), (97, 131), (128, 64)])
def test_any_size(mini, build, height, width):
    prediction = build(mini)(images(2, height, width))
    assert prediction.depth.shape == (2, 1, height, width)
    assert prediction.depth.isfinite().all()
    assert prediction.space is Space.DISPARITY


def test_predict_keeps_the_image_size(mini, build):
    model = build(mini)
    prediction = model.predict((images(1, 75, 53)[0].permute(1, 2, 0) * 255).byte().numpy())
    assert prediction.depth.shape == (1, 1, 75, 53)
    assert prediction.depth.isfinite().all()
    assert prediction.depth.min() >= 0


def test_answers_come_back_by_cubic_interpolation(build):
    model = build("mini-vit")
    x = images(1, 70, 105)
    with torch.inference_mode():
        seen = torch.nn.functional.interpolate(x, (64, 96), mode="bicubic", align_corners=False)
        depth, _ = model.estimate((seen - 0.5) / 0.5)
        expected = torch.nn.functional.interpolate(depth, (70, 105), mode="bicubic", align_corners=False).clamp(min=0)
    assert expected.std() > 0.05
    assert torch.equal(model.predict(x[0]).depth, expected)


def test_levit_sees_other_sizes_at_its_own(build):
    model = build("mini-levit")
    x = torch.randn(1, 3, 96, 128)
    own = torch.nn.functional.interpolate(x, (64, 64), mode="bicubic", align_corners=False)
    with torch.inference_mode():
        assert torch.equal(model.estimate(x)[0], model.estimate(own)[0])


def test_weights_that_come_later_are_used(mini, build):
    first, second = build(mini), build(mini, seed=1)
    x = images(1)
    with torch.no_grad():
        expected = second(x).depth
        first(x)
        first.load_state_dict(second.state_dict())
        assert torch.equal(first(x).depth, expected)


def test_deep_copy_is_equal_and_apart(mini, build):
    model = build(mini)
    x = images()
    model.predict(x[0])
    with torch.no_grad():
        before = model(x).depth
        twin = copy.deepcopy(model)
        assert torch.equal(twin(x).depth, before)
        for parameter in twin.parameters():
            parameter.zero_()
        assert torch.equal(model(x).depth, before)


def test_precisions(mini, build):
    model, x = build(mini), images(1, 64, 128)
    with torch.inference_mode():
        exact = model(x).depth
        with torch.autocast("cpu", torch.bfloat16):
            auto = model(x).depth
        double = copy.deepcopy(model).double()(x.double()).depth
        half = copy.deepcopy(model).bfloat16()(x.bfloat16()).depth
    assert exact.dtype == auto.dtype == double.dtype == half.dtype == torch.float32
    spread = exact.std()
    assert (double - exact).abs().max() < 1e-3 * spread
    assert (auto - exact).abs().mean() < 0.2 * spread
    assert (half - exact).abs().mean() < 0.2 * spread


def test_as_teacher(mini, build):
    model = build(mini)
    teacher = FrozenTeacher(copy.deepcopy(model)).train()
    x = images(1, 70, 90).requires_grad_()
    prediction = teacher(x)
    assert not prediction.depth.requires_grad
    assert not any(p.requires_grad for p in teacher.parameters())
    with torch.no_grad():
        assert torch.equal(prediction.depth, model(x).depth)


def test_native_size_is_an_option():
    assert Midas("tiny").spec.native.target(480, 640) == (128, 160)
    assert Midas("tiny", native_size=192).spec.native.target(480, 640) == (192, 256)
