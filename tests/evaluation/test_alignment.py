"""Alignment against numpy.linalg.lstsq, and its degenerate cases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.evaluation.alignment import fit_scale, fit_scale_shift


def _maps(seed: int, batch: int = 3, height: int = 9, width: int = 7) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    source = torch.randn(batch, height, width, generator=generator, dtype=torch.float64)
    target = torch.rand(batch, height, width, generator=generator, dtype=torch.float64)
    valid = torch.rand(batch, height, width, generator=generator) > 0.3
    return source, target, valid


@given(seed=st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_scale_and_shift_equal_lstsq(seed):
    source, target, valid = _maps(seed)
    affine = fit_scale_shift(source, target, valid)
    for i in range(3):
        design = np.stack([source[i][valid[i]].numpy(), np.ones(int(valid[i].sum()))], axis=1)
        (scale, shift), *_ = np.linalg.lstsq(design, target[i][valid[i]].numpy(), rcond=None)
        assert affine.scale[i].item() == pytest.approx(scale, rel=1e-9, abs=1e-12)
        assert affine.shift[i].item() == pytest.approx(shift, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize(("scale", "shift"), [(2.5, -0.75), (-3.0, 1e4), (1e-4, 0.0)])
def test_known_affine_distortion_is_undone_exactly(scale, shift):
    _, target, valid = _maps(0)
    affine = fit_scale_shift((target - shift) / scale, target, valid)
    torch.testing.assert_close(affine((target - shift) / scale), target, rtol=1e-7, atol=1e-9)


def test_values_outside_the_mask_are_never_read():
    source, target, valid = _maps(1)
    expected = fit_scale_shift(source, target, valid)
    poisoned = fit_scale_shift(source.where(valid, torch.nan), target.where(valid, torch.inf), valid)
    assert torch.equal(expected.scale, poisoned.scale)
    assert torch.equal(expected.shift, poisoned.shift)


def test_constant_prediction_gets_the_mean_of_the_truth():
    _, target, valid = _maps(2)
    affine = fit_scale_shift(torch.full_like(target, 0.1), target, valid)
    assert torch.equal(affine.scale, torch.zeros(3, dtype=torch.float64))
    for i in range(3):
        assert affine.shift[i].item() == pytest.approx(target[i][valid[i]].mean().item())


def test_no_valid_pixel_gives_zero():
    source, target, valid = _maps(3)
    affine = fit_scale_shift(source, target, torch.zeros_like(valid))
    assert affine.scale.tolist() == [0, 0, 0]
    assert affine.shift.tolist() == [0, 0, 0]


def test_scale_is_the_ratio_of_medians():
    source = torch.tensor([[[1.0, 2.0, 3.0]], [[0.0, 0.0, 0.0]]])
    target = torch.tensor([[[4.0, 8.0, 100.0]], [[1.0, 1.0, 1.0]]])
    affine = fit_scale(source, target, torch.ones(2, 1, 3, dtype=torch.bool))
    assert affine.scale.tolist() == [4.0, 0.0]
    assert affine.shift.tolist() == [0.0, 0.0]
