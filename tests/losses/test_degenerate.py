"""Constant maps, empty masks, single pixels, extreme values: every case that the docstrings name."""

from __future__ import annotations

import pytest
import torch

from dadkit.losses import gradient_matching_loss, hybrid_norm_loss, l1_loss, local_norm_loss, median_mad, normalize, ssi_loss

NORMALISED = [hybrid_norm_loss, ssi_loss, local_norm_loss, gradient_matching_loss]


def value_and_gradient(loss, pred, target, mask=None, **keywords):
    pred = pred.clone().requires_grad_()
    value = loss(pred, target, mask, **keywords)
    (gradient,) = torch.autograd.grad(value.sum(), pred)
    return value.detach(), gradient


def rand(*shape, seed=0):
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("loss", NORMALISED)
@pytest.mark.parametrize("constant", [0.0, 3.7, 1e4])
def test_constant_target_gives_0_and_no_gradient(loss, constant):
    value, gradient = value_and_gradient(loss, rand(1, 8, 9), torch.full((1, 8, 9), constant))
    assert value.item() == 0
    assert torch.count_nonzero(gradient) == 0


@pytest.mark.parametrize("noise", [0.0, 1e-7])
def test_a_target_constant_up_to_rounding_counts_as_constant(noise):
    target = 1 + noise * torch.randint(0, 2, (1, 8, 9), generator=torch.Generator().manual_seed(0))
    value, gradient = value_and_gradient(hybrid_norm_loss, rand(1, 8, 9), target)
    assert value.item() == 0
    assert torch.count_nonzero(gradient) == 0
    clear = 1 + 1e-4 * torch.randint(0, 2, (1, 8, 9), generator=torch.Generator().manual_seed(0))
    assert hybrid_norm_loss(rand(1, 8, 9), clear).item() > 0


@pytest.mark.parametrize("loss", NORMALISED)
@pytest.mark.parametrize("constant", [0.0, -2.5])
def test_constant_prediction_counts_as_zero_and_gets_no_gradient(loss, constant):
    target = rand(1, 8, 9)
    value, gradient = value_and_gradient(loss, torch.full((1, 8, 9), constant), target)
    assert value.item() > 0.5
    assert torch.count_nonzero(gradient) == 0
    if loss is ssi_loss:
        assert value.item() == pytest.approx(1.0), "mean |N(target)| is 1 by definition"


@pytest.mark.parametrize("loss", [*NORMALISED, l1_loss])
@pytest.mark.parametrize("reduction", ["mean", "pixel", "image", "none"])
def test_an_empty_mask_gives_0_and_no_gradient(loss, reduction):
    mask = torch.zeros(2, 8, 9, dtype=torch.bool)
    value, gradient = value_and_gradient(loss, rand(2, 8, 9), rand(2, 8, 9, seed=1), mask, reduction=reduction)
    assert torch.count_nonzero(value) == 0
    assert torch.count_nonzero(gradient) == 0


@pytest.mark.parametrize("loss", [*NORMALISED, l1_loss])
def test_an_empty_image_counts_as_0_in_the_mean_and_not_at_all_in_the_pixel_mean(loss):
    pred, target = rand(2, 8, 9), rand(2, 8, 9, seed=1)
    mask = torch.ones(2, 8, 9, dtype=torch.bool)
    mask[1] = False
    alone = loss(pred[:1], target[:1])
    torch.testing.assert_close(loss(pred, target, mask), alone / 2)
    torch.testing.assert_close(loss(pred, target, mask, reduction="pixel"), alone)


@pytest.mark.parametrize("loss", [*NORMALISED, l1_loss])
def test_a_single_pixel_and_a_single_valid_pixel(loss):
    value, gradient = value_and_gradient(loss, rand(1, 1, 1), rand(1, 1, 1, seed=1))
    assert value.isfinite()
    assert gradient.isfinite().all()
    mask = torch.zeros(1, 5, 5, dtype=torch.bool)
    mask[0, 2, 2] = True
    value, gradient = value_and_gradient(loss, rand(1, 5, 5), rand(1, 5, 5, seed=1), mask)
    if loss is not l1_loss:
        assert value.item() == 0
        assert torch.count_nonzero(gradient) == 0


@pytest.mark.parametrize("loss", [*NORMALISED, l1_loss])
@pytest.mark.parametrize("reduction", ["mean", "pixel"])
def test_an_empty_batch_is_0(loss, reduction):
    assert loss(torch.rand(0, 4, 4), torch.rand(0, 4, 4), reduction=reduction).item() == 0


def test_zero_sky_prediction_and_target():
    target = rand(1, 40, 30) + 0.1
    pred = rand(1, 40, 30, seed=1)
    target[:, :20], pred[:, :20] = 0, 0
    for loss in NORMALISED:
        value, gradient = value_and_gradient(loss, pred, target)
        assert value.isfinite()
        assert gradient.isfinite().all()


@pytest.mark.parametrize("scale", [1e-42, 1e-35, 1e-30, 1e-20, 1e20])
@pytest.mark.parametrize("which", ["pred", "target"])
def test_extreme_magnitudes_stay_finite(scale, which):
    pred, target = rand(1, 16, 16), rand(1, 16, 16, seed=1)
    pred, target = (pred * scale, target) if which == "pred" else (pred, target * scale)
    for loss in NORMALISED:
        value, gradient = value_and_gradient(loss, pred, target)
        assert value.isfinite()
        assert gradient.isfinite().all()


def test_median_and_deviation_of_nothing_and_of_a_constant():
    x = rand(2, 4, 4)
    median, mad = median_mad(x, torch.zeros(2, 4, 4, dtype=torch.bool))
    assert median.tolist() == [0, 0]
    assert mad.tolist() == [0, 0]
    assert median_mad(torch.full((1, 4, 4), 2.5))[0].item() == 2.5
    assert torch.count_nonzero(normalize(torch.full((1, 4, 4), 2.5))) == 0
    bad = x.clone()
    bad[0, 0, 0] = torch.inf
    for answer in median_mad(bad):
        assert answer.isnan().tolist() == [True, False]
