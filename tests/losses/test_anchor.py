"""The scale anchor: formula, calibration, state."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.losses import ScaleAnchorLoss, median_mad, scale_anchor_loss
from dadkit.testing.strategies import KINDS, pairs


def mad(values):
    median = values.sort().values[(values.numel() - 1) // 2]
    return (values - median).abs().mean().item()


def rand(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(settings.get_profile("losses"), max_examples=60)
@given(
    pair=pairs(dtype=torch.float64, kinds=[k for k in KINDS if k != "constant"]),
    target_scale=st.sampled_from([0.1, 1.0, 30.0]),
    student_scale=st.sampled_from([1.0, 0.2]),
)
def test_equals_its_formula(pair, target_scale, student_scale):
    want = []
    for p, d, valid in zip(pair.pred, pair.target, pair.valid, strict=True):
        spreads = [mad(x[valid]) if valid.any() else 0.0 for x in (p, d)]
        if min(spreads) == 0:
            want.append(0.0)
        else:
            want.append(abs(math.log(spreads[0]) - math.log(student_scale * spreads[1] / target_scale)))
    options = {"target_scale": target_scale, "student_scale": student_scale}
    images = scale_anchor_loss(pair.pred, pair.target, pair.mask, **options, reduction="image")
    assert images.tolist() == pytest.approx(want, rel=1e-9, abs=1e-12)
    assert scale_anchor_loss(pair.pred, pair.target, pair.mask, **options).item() == pytest.approx(sum(want) / len(want))
    pixels = scale_anchor_loss(pair.pred, pair.target, pair.mask, **options, reduction="none")
    torch.testing.assert_close(pixels, torch.where(pair.valid, images[:, None, None], 0))
    used = pair.valid & (images > 0)[:, None, None]
    pooled = scale_anchor_loss(pair.pred, pair.target, pair.mask, **options, reduction="pixel")
    assert pooled.item() == pytest.approx(pixels.sum().item() / max(int(used.sum()), 1))


def test_shift_scale_and_gradient():
    p, d = rand(3, 9, 8).requires_grad_(), rand(3, 9, 8, seed=1)
    loss = scale_anchor_loss(p, d, target_scale=0.7, reduction="image")
    again = scale_anchor_loss(5 * (p + 3), d - 2, target_scale=0.7, student_scale=5.0, reduction="image")
    torch.testing.assert_close(again, loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(scale_anchor_loss(p, 8 * d, target_scale=5.6, reduction="image"), loss, rtol=1e-12, atol=1e-12)
    (gradient,) = torch.autograd.grad(loss.sum(), p)
    torch.testing.assert_close(gradient.sum((1, 2)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    wanted = median_mad(d)[1] / 0.7
    torch.testing.assert_close((gradient * p).sum((1, 2)), (median_mad(p)[1] - wanted).sign())


def test_constant_maps_are_skipped_and_count_0():
    p, d = rand(3, 6, 6), rand(3, 6, 6, seed=1)
    p[1], d[2] = 0.5, 2.0
    p.requires_grad_()
    images = scale_anchor_loss(p, d, target_scale=1.0, reduction="image")
    assert images[1:].tolist() == [0, 0]
    mean = scale_anchor_loss(p, d, target_scale=1.0)
    assert mean.item() == pytest.approx(images[0].item() / 3)
    mean.backward()
    assert p.grad.isfinite().all()
    assert torch.count_nonzero(p.grad[1:]) == 0


def test_scales_per_image():
    p, d = rand(2, 6, 6), rand(2, 6, 6, seed=1)
    both = scale_anchor_loss(
        p, d, target_scale=torch.tensor([1.0, 3.0]), student_scale=torch.tensor([1.0, 2.0]), reduction="image"
    )
    assert both[0] == scale_anchor_loss(p[:1], d[:1], target_scale=1.0)
    torch.testing.assert_close(
        both[1], scale_anchor_loss(p[1:], d[1:], target_scale=3.0, student_scale=2.0), rtol=1e-6, atol=1e-6
    )


@pytest.mark.parametrize("option", [{"target_scale": 0.0}, {"target_scale": -1.0}, {"target_scale": 1.0, "student_scale": 0.0}])
def test_scales_must_be_positive(option):
    with pytest.raises(ValueError, match="must be above 0, got"):
        scale_anchor_loss(rand(1, 4, 4), rand(1, 4, 4), **option)


def maps_with_spreads(spreads, seed=0):
    x = rand(len(spreads), 12, 12, seed=seed)
    _, have = median_mad(x)
    return (x * (torch.tensor(spreads, dtype=torch.float64) / have)[:, None, None]).float()


def test_the_teachers_scale_is_the_median_of_its_first_maps_then_frozen():
    anchor = ScaleAnchorLoss(teachers=2, warmup_maps=5)
    pred = maps_with_spreads([1.0, 1.0])
    assert anchor.target_scale(0).item() == 1
    anchor(pred, maps_with_spreads([3.0, 7.0]), teacher=0)
    assert anchor.target_scale(0).item() == pytest.approx(3.0, rel=1e-5), "lower median of those seen so far"
    anchor(pred, maps_with_spreads([9.0, 0.5]), teacher=0)
    anchor(pred, maps_with_spreads([20.0, 1000.0]), teacher=1)
    anchor(pred, maps_with_spreads([8.0, 1e6]), teacher=0)  # the fifth and a sixth
    assert anchor.target_scale(0).item() == pytest.approx(7.0, rel=1e-5)
    for _ in range(3):
        anchor(pred, maps_with_spreads([1e-3, 1e-3]), teacher=0)
    assert anchor.target_scale(0).item() == pytest.approx(7.0, rel=1e-5)
    assert anchor.target_scale(1).item() == pytest.approx(20.0, rel=1e-5)
    assert [meter.count.item() for meter in anchor.targets] == [5, 2]


def test_constant_and_bad_maps_are_not_measured_and_evaluation_measures_nothing():
    anchor = ScaleAnchorLoss(warmup_maps=4)
    pred, target = maps_with_spreads([1.0, 1.0, 1.0]), maps_with_spreads([2.0, 3.0, 4.0])
    target[0], target[1, 0, 0] = 1.5, torch.nan
    assert anchor(pred, target).isnan()
    assert anchor.targets[0].count.item() == 1
    assert anchor.target_scale().item() == pytest.approx(4.0, rel=1e-5)
    anchor.eval()
    anchor(pred, maps_with_spreads([2.0, 2.0, 2.0]))
    assert anchor.targets[0].count.item() == 1


def test_nothing_measured_means_no_loss():
    anchor = ScaleAnchorLoss().eval()
    assert anchor(maps_with_spreads([5.0]), maps_with_spreads([2.0])).item() == 0
    anchor.train()
    assert anchor(torch.ones(1, 4, 4), torch.ones(1, 4, 4)).item() == 0


def test_a_fresh_student_is_held_at_1_and_a_pretrained_one_at_its_own_scale():
    target = maps_with_spreads([40.0, 50.0, 60.0])
    fresh, pretrained = ScaleAnchorLoss(), ScaleAnchorLoss(pretrained_student=True)
    pred = maps_with_spreads([0.1, 0.2, 0.3])
    fresh(pred, target)
    pretrained(pred, target)
    assert fresh.student_scale().item() == 1
    assert pretrained.student_scale().item() == pytest.approx(0.2, rel=1e-5)
    at_target = maps_with_spreads([40 / 50, 1.0, 60 / 50])
    assert fresh.eval()(at_target, target).item() == pytest.approx(0, abs=1e-4)
    assert pretrained.eval()(0.2 * at_target, target).item() == pytest.approx(0, abs=1e-4)


def test_observe_measures_without_a_loss():
    one, other = ScaleAnchorLoss(teachers=2), ScaleAnchorLoss(teachers=2)
    pred, target = maps_with_spreads([1.0, 2.0]), maps_with_spreads([3.0, 4.0])
    one(pred, target, teacher=1)
    assert other.observe(pred, target, teacher=1) is None
    for name, buffer in one.state_dict().items():
        assert torch.equal(buffer, other.state_dict()[name])


def test_the_state_comes_back_exactly_in_the_middle_of_the_warm_up():
    generator = torch.Generator().manual_seed(0)
    steps = [(torch.rand(2, 8, 8, generator=generator), 50 * torch.rand(2, 8, 8, generator=generator)) for _ in range(8)]

    def run(anchor, part):
        return [anchor(p, d, teacher=i % 2).item() for i, (p, d) in enumerate(part)]

    straight = ScaleAnchorLoss(teachers=2, warmup_maps=5, pretrained_student=True)
    want = run(straight, steps)
    first = ScaleAnchorLoss(teachers=2, warmup_maps=5, pretrained_student=True)
    got = run(first, steps[:2])
    second = ScaleAnchorLoss(teachers=2, warmup_maps=5, pretrained_student=True)
    second.load_state_dict(first.state_dict())
    assert got + run(second, steps[2:]) == want


def test_wrong_arguments():
    for options in ({"teachers": 0}, {"warmup_maps": 0}):
        with pytest.raises(ValueError, match="must be at least 1"):
            ScaleAnchorLoss(**options)
    with pytest.raises(ValueError, match="an index below 2, got 2"):
        ScaleAnchorLoss(teachers=2)(maps_with_spreads([1.0]), maps_with_spreads([1.0]), teacher=2)
