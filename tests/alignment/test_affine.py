"""Alignment against numpy.linalg.lstsq, and its degenerate cases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.alignment.affine import FITS, fit_regions, fit_scale_shift, line, per_image


def fit_by(name: str):
    """The alignment of that name on whole (B, H, W) maps."""
    return lambda source, target, valid: per_image(FITS[name], source, target, valid)


fit_scale, fit_scale_lstsq, fit_l1, fit_ransac = map(fit_by, ("scale", "scale-lstsq", "scale-shift-l1", "scale-shift-ransac"))


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


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_weights_equal_lstsq_of_weighted_rows(seed):
    source, target, valid = _maps(seed)
    weight = torch.rand(3, 9, 7, generator=torch.Generator().manual_seed(seed + 1), dtype=torch.float64) + 0.01
    for i in range(3):
        found = line(*(maps[i][valid[i]] for maps in (source, target, weight)))
        root = weight[i][valid[i]].sqrt().numpy()
        design = np.stack([source[i][valid[i]].numpy(), np.ones(len(root))], axis=1) * root[:, None]
        (scale, shift), *_ = np.linalg.lstsq(design, target[i][valid[i]].numpy() * root, rcond=None)
        assert found == pytest.approx((scale, shift), rel=1e-9, abs=1e-12)


def test_scale_alone_equals_lstsq():
    source, target, valid = _maps(5)
    affine = fit_scale_lstsq(source, target, valid)
    for i in range(3):
        (scale,), *_ = np.linalg.lstsq(source[i][valid[i]].numpy()[:, None], target[i][valid[i]].numpy(), rcond=None)
        assert affine.scale[i].item() == pytest.approx(scale, rel=1e-9)
    assert fit_scale_lstsq(torch.zeros_like(source), target, valid).scale.tolist() == [0, 0, 0]


def test_least_absolute_deviations_equal_linear_programming():
    optimize = pytest.importorskip("scipy.optimize")
    source, target, valid = _maps(7, batch=2)
    affine = fit_l1(source, target, valid)
    for i in range(2):
        x, y = source[i][valid[i]].numpy(), target[i][valid[i]].numpy()
        n = len(x)
        # minimise sum u with |s x + t - y| <= u
        cost = np.concatenate([np.ones(n), [0, 0]])
        line = np.stack([x, np.ones(n)], 1)
        above, below = np.hstack([-np.eye(n), line]), np.hstack([-np.eye(n), -line])
        best = optimize.linprog(cost, np.vstack([above, below]), np.concatenate([y, -y]), bounds=[(None, None)] * (n + 2)).fun
        got = np.abs(affine.scale[i].item() * x + affine.shift[i].item() - y).sum()
        assert got == pytest.approx(best, rel=1e-4)


@pytest.mark.parametrize(("fit", "wild"), [(fit_l1, "truth"), (fit_ransac, "truth"), (fit_ransac, "prediction")])
def test_wild_pixels_do_not_move_the_robust_fits(fit, wild):
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 20, 20, generator=generator, dtype=torch.float64) + 0.5
    source = (target - 0.3) / 2.5
    (target if wild == "truth" else source)[:, :5] = torch.rand(2, 5, 20, generator=generator, dtype=torch.float64) * 50
    valid = torch.ones_like(target, dtype=torch.bool)
    robust = fit(source, target, valid)
    torch.testing.assert_close(robust.scale, torch.full_like(robust.scale, 2.5), rtol=5e-3, atol=0)
    torch.testing.assert_close(robust.shift, torch.full_like(robust.shift, 0.3), rtol=0, atol=1e-2)
    plain = fit_scale_shift(source, target, valid)
    assert ((plain.scale - 2.5).abs() + (plain.shift - 0.3).abs()).min() > 0.3


@pytest.mark.parametrize("fit", [fit_l1, fit_ransac, fit_regions, fit_scale, fit_scale_lstsq, fit_scale_shift])
def test_every_fit_is_the_same_in_a_batch_and_alone(fit):
    source, target, valid = _maps(11)
    together = fit(source, target, valid)
    for i in range(3):
        alone = fit(source[i : i + 1], target[i : i + 1], valid[i : i + 1])
        assert torch.equal(together.scale[i], alone.scale[0])
        assert torch.equal(together.shift[i], alone.shift[0])


@pytest.mark.parametrize("fit", [fit_l1, fit_ransac, fit_regions])
def test_degenerate_maps_are_those_of_least_squares(fit):
    _, target, valid = _maps(2)
    constant = torch.full_like(target, 0.1)
    affine, plain = fit(constant, target, valid), fit_scale_shift(constant, target, valid)
    if fit is not fit_regions:
        assert torch.equal(affine.scale, plain.scale)
    assert affine(constant).isfinite().all()
    nothing = fit(constant, target, torch.zeros_like(valid))
    assert (nothing.scale == 0).all()
    assert (nothing.shift == 0).all()


def test_regions_undo_another_affine_map_in_each_cell():
    generator = torch.Generator().manual_seed(1)
    target = torch.rand(1, 12, 16, generator=generator, dtype=torch.float64) + 1
    source = target.clone()
    source[:, :6] = 3 * source[:, :6] - 1
    source[:, 6:, 8:] = 10 - source[:, 6:, 8:]
    valid = torch.ones_like(target, dtype=torch.bool)
    torch.testing.assert_close(fit_regions(source, target, valid, grid=(2, 2))(source), target)
    valid[:, :3, :4] = False  # a cell without truth takes the whole image's fit
    cells = fit_regions(source, target, valid, grid=(4, 4))
    whole = fit_scale_shift(source, target, valid)
    assert torch.equal(cells.scale[:, 0, 0], whole.scale)
