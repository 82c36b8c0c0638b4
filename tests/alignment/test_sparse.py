"""Metres from a relative map and points: what must hold for every number and pattern of points."""

import math

import numpy as np
import pytest
import torch

from dadkit.alignment import HintsError, align_to_points, kriging
from dadkit.interfaces import Hints

SIZE = (48, 64)


def scene(seed=0):
    """Metres with two objects, and a relative disparity of it that bends and misses the second object's scale."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
    metres = 6 - 4 * rows + 0.5 * torch.sin(5 * columns)
    metres[10:30, 8:24] = 1.5
    metres[20:40, 40:56] = 2.2
    error = 1 + 0.35 * torch.sin(3 * columns + 2 * rows + float(torch.rand((), generator=generator)))
    return metres, 3 * error / metres + 0.8


def points(metres, count, seed=0, columns=slice(None), outliers=0.0):
    generator = torch.Generator().manual_seed(seed)
    allowed = torch.zeros(SIZE, dtype=torch.bool)
    allowed[:, columns] = True
    at = allowed.nonzero()
    at = at[torch.randperm(len(at), generator=generator)[:count]]
    z = metres[at[:, 0], at[:, 1]].clone()
    wild = torch.rand(len(z), generator=generator) < outliers
    z[wild] *= torch.where(torch.rand(int(wild.sum()), generator=generator) < 0.5, 0.4, 2.5)
    return Hints.from_points(torch.stack((at[:, 1].float(), at[:, 0].float(), z), 1), SIZE)


def error(depth, metres):
    return float(((depth[0, 0] - metres).abs() / metres).mean())


@pytest.mark.parametrize("local", ["fill", "poisson", "knn", "kriging"])
def test_residuals_between_points_are_filled(local):
    metres, relative = scene()
    hints = points(metres, 150)
    whole = align_to_points(relative[None, None], "disparity", hints.depth, hints.valid, local="none")
    filled = align_to_points(relative[None, None], "disparity", hints.depth, hints.valid, local=local)
    assert error(filled.depth, metres) < 0.5 * error(whole.depth, metres)


@pytest.mark.parametrize("local", ["fill", "poisson", "knn", "kriging", "none"])
@pytest.mark.parametrize("count", [1, 2, 5, 10, 60])
@pytest.mark.parametrize("space", ["disparity", "depth", "metric"])
def test_every_number_of_points_gives_positive_metres_that_follow_the_unit(local, count, space):
    metres, disparity = scene()
    relative = disparity if space == "disparity" else 0.4 * metres + (0.0 if space == "metric" else 0.3)
    hints = points(metres, count)
    fit = align_to_points(relative[None, None], space, hints.depth, hints.valid, local=local)
    tenfold = align_to_points(relative[None, None], space, 10 * hints.depth, hints.valid, local=local)
    assert fit.depth.dtype == torch.float32
    assert bool((fit.depth > 0).all())
    assert bool(fit.depth.isfinite().all())
    torch.testing.assert_close(tenfold.depth, 10 * fit.depth, rtol=1e-4, atol=0)
    assert bool((fit.used <= hints.valid).all())


def test_an_exact_map_is_recovered_beyond_the_points_range():
    metres, _ = scene()
    relative = 0.2 * metres + 7
    hints = points(metres, 40)
    near = Hints(hints.depth, hints.valid & (hints.depth < 4))
    fit = align_to_points(relative[None, None], "depth", near.depth, near.valid)
    torch.testing.assert_close(fit.depth[0, 0], metres, rtol=1e-4, atol=0)


def test_values_outside_the_mask_are_never_read_and_images_do_not_touch():
    metres, relative = scene()
    one, two = points(metres, 60, seed=1), points(2 * metres, 20, seed=2)
    spoilt = torch.where(
        one.valid, one.depth, torch.tensor([math.nan, 1e30, -1.0]).repeat(one.depth.numel() // 3).view_as(one.depth)
    )
    alone = align_to_points(relative[None, None], "disparity", one.depth, one.valid)
    both = align_to_points(
        torch.stack((relative, relative))[:, None],
        "disparity",
        torch.cat((spoilt, two.depth)),
        torch.cat((one.valid, two.valid)),
    )
    assert torch.equal(both.depth[:1], alone.depth)


@pytest.mark.parametrize("share", [0.05, 0.15])
def test_outliers_are_found_and_change_little(share):
    metres, relative = scene()
    clean, wild = points(metres, 300), points(metres, 300, outliers=share)
    wrong = wild.valid & ((wild.depth - clean.depth).abs() > 0.1 * clean.depth)
    fit = align_to_points(relative[None, None], "disparity", wild.depth, wild.valid)
    base = align_to_points(relative[None, None], "disparity", clean.depth, clean.valid)
    assert int((fit.used & wrong).sum()) <= 0.1 * int(wrong.sum())
    assert error(fit.depth, metres) < 1.5 * error(base.depth, metres)


@pytest.mark.parametrize("seed", range(5))
def test_points_in_one_half_never_make_it_worse_than_the_global_fit(seed):
    metres, relative = scene(seed)
    hints = points(metres, 60, seed=seed, columns=slice(0, 32))
    whole = align_to_points(relative[None, None], "disparity", hints.depth, hints.valid, local="none")
    filled = align_to_points(relative[None, None], "disparity", hints.depth, hints.valid)
    assert error(filled.depth, metres) <= error(whole.depth, metres) * 1.01


def test_degenerate_points():
    metres, relative = scene()
    none = Hints(torch.zeros(1, 1, *SIZE), torch.zeros(1, 1, *SIZE, dtype=torch.bool))
    with pytest.raises(HintsError, match="at least one"):
        align_to_points(relative[None, None], "disparity", none.depth, none.valid)
    same = points(torch.full(SIZE, 3.0), 30)
    flat = align_to_points(torch.ones(1, 1, *SIZE), "disparity", same.depth, same.valid)
    torch.testing.assert_close(flat.depth, torch.full_like(flat.depth, 3.0), rtol=1e-5, atol=0)
    # A map that is upside down: the scale would be negative, so one factor is fitted.
    upside = align_to_points(metres[None, None], "disparity", *(lambda h: (h.depth, h.valid))(points(metres, 50)))
    assert float(upside.scale) > 0


def test_exact_keeps_the_points_and_support_says_how_far_they_are():
    metres, relative = scene()
    hints = points(metres, 12)
    fit = align_to_points(relative[None, None], "disparity", hints.depth, hints.valid, keep="exact")
    assert torch.equal(fit.depth[fit.used], hints.depth[fit.used])
    at = fit.used[0, 0].nonzero().double()
    rows, columns = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) for n in SIZE), indexing="ij")
    nearest = torch.cdist(torch.stack((rows, columns), -1).view(-1, 2), at).amin(1).view(SIZE)
    assert float((fit.support[0, 0] - nearest).abs().max()) < 4


def test_kriging_is_gaussian_process_regression_of_scikit_learn():
    gaussian = pytest.importorskip("sklearn.gaussian_process")
    kernels = gaussian.kernels
    _, relative = scene()
    over = relative.double().log()
    generator = torch.Generator().manual_seed(0)
    at = torch.cartesian_prod(torch.arange(SIZE[0]), torch.arange(SIZE[1] // 2))  # none in the right half
    at = at[torch.randperm(len(at), generator=generator)[:40]]
    values, weight = (torch.rand(40, generator=generator, dtype=torch.float64) for _ in range(2))
    weight[0] = 0
    field = kriging(values, at, weight, over)

    there = over[at[1:, 0], at[1:, 1]].numpy()
    level = (over.numpy().clip(*np.quantile(there, (0.02, 0.98))) - there.mean()) / (there.std() + 0.05)
    rows, columns = (2 * (np.arange(side) + 0.5) / side - 1 for side in SIZE)
    pixels = np.stack((*np.meshgrid(rows, columns, indexing="ij"), level), -1)
    matern = kernels.Matern([1.5, 1.5, 3], nu=0.5, length_scale_bounds="fixed")
    kernel = kernels.ConstantKernel(1) + matern + kernels.ConstantKernel(0.5) * kernels.RBF([1, 1e9, 1])
    nugget = 0.03 * float(weight.max()) / weight[1:].numpy()
    model = gaussian.GaussianProcessRegressor(kernel, alpha=nugget, optimizer=None)
    model.fit(pixels[tuple(at[1:].T)], values[1:].numpy())
    wanted = torch.from_numpy(model.predict(pixels.reshape(-1, 3))).view(SIZE)
    torch.testing.assert_close(field, wanted, rtol=1e-5, atol=1e-5)
    assert not kriging(values, at, 0 * weight, over).any()
    coarse = kriging(values, at, weight, over, cell=2)
    assert float((coarse - field).abs().mean()) < 0.2 * float(field.std())
