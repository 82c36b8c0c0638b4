"""Channel-wise, spatial and pairwise losses against plain loops, torch's own KL, and their claims."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from dadkit.losses import (
    ChannelWiseLoss,
    PairwiseLoss,
    SpatialLoss,
    channel_wise_loss,
    pairwise_loss,
    spatial_loss,
)


def rand(*shape, seed=0):
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def loop(p, d, tau, divergence):
    """One image's valid pixels, one channel."""
    e_p, e_d = ([math.exp(x / tau) for x in values] for values in (p.tolist(), d.tolist()))
    phi_p, phi_d = ([x / sum(e) for x in e] for e in (e_p, e_d))
    if divergence == "kl":
        return tau**2 * sum(b * math.log(b / a) for a, b in zip(phi_p, phi_d, strict=True))
    return tau**2 * sum((b - a) ** 2 for a, b in zip(phi_p, phi_d, strict=True))


@pytest.mark.parametrize("tau", [0.5, 1.0, 4.0])
@pytest.mark.parametrize("divergence", ["kl", "mse"])
def test_channel_wise_equals_its_formula(tau, divergence):
    p, d = rand(3, 6, 5), rand(3, 6, 5, seed=1)
    mask = rand(3, 6, 5, seed=2) > 0.3
    mask[1] = False
    want = [loop(p[i][mask[i]], d[i][mask[i]], tau, divergence) if i != 1 else 0.0 for i in range(3)]
    call = {"tau": tau, "divergence": divergence}
    assert channel_wise_loss(p, d, mask, **call, reduction="image").tolist() == pytest.approx(want, rel=1e-6, abs=1e-15)
    assert channel_wise_loss(p, d, mask, **call).item() == pytest.approx(sum(want) / 3, rel=1e-6)
    numbers = mask.flatten(1).sum(1).tolist()
    pooled = sum(w * n for w, n in zip(want, numbers, strict=True)) / sum(numbers)
    assert channel_wise_loss(p, d, mask, **call, reduction="pixel").item() == pytest.approx(pooled, rel=1e-6)
    pixels = channel_wise_loss(p[:, None], d[:, None], mask[:, None], **call, reduction="none")
    assert pixels.shape == (3, 1, 6, 5)
    assert pixels[0, 0][mask[0]].mean().item() == pytest.approx(want[0], rel=1e-6)
    assert torch.count_nonzero(pixels[:, 0][~mask]) == 0


def test_features_are_averaged_over_their_channels():
    p, d = rand(2, 4, 5, 5), rand(2, 4, 5, 5, seed=1)
    each = torch.stack([channel_wise_loss(p[:, k], d[:, k], reduction="image") for k in range(4)]).mean(0)
    torch.testing.assert_close(channel_wise_loss(p, d, reduction="image"), each)
    torch_kl = F.kl_div(p.flatten(2).log_softmax(2), d.flatten(2).log_softmax(2), reduction="sum", log_target=True) / (2 * 4)
    torch.testing.assert_close(channel_wise_loss(p, d), torch_kl)


def test_for_a_small_range_it_is_half_the_variance_of_the_difference():
    p, d = rand(1, 40, 40), rand(1, 40, 40, seed=1)
    for tau in (1.0, 10.0):
        half = 0.5 * (d - p).var(unbiased=False).item()
        assert channel_wise_loss(p, d, tau=tau).item() == pytest.approx(half, rel=0.2 if tau == 1 else 0.02)


def test_with_a_large_range_it_sees_only_the_largest_values():
    d = torch.linspace(0, 1, 1000, dtype=torch.float64).view(1, 25, 40)
    p = d.clone().requires_grad_()
    channel_wise_loss(p + 0.01 * torch.sin(50 * d), d, tau=0.01).backward()
    weight = p.grad.abs().flatten()
    assert weight[-50:].sum() / weight.sum() > 0.9


def test_shift_invariance_gradient_and_poison():
    p, d = rand(2, 6, 6).requires_grad_(), rand(2, 6, 6, seed=1)
    loss = channel_wise_loss(p + 3, d - 2)
    torch.testing.assert_close(loss, channel_wise_loss(p, d))
    (gradient,) = torch.autograd.grad(loss, p)
    torch.testing.assert_close(gradient.sum((1, 2)), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert torch.autograd.gradcheck(lambda x: channel_wise_loss(x, d, reduction="image"), p)
    bad, mask = d.clone(), torch.ones_like(d, dtype=torch.bool)
    bad[0, 0, 0] = torch.nan
    assert channel_wise_loss(p, bad, reduction="image").isnan().tolist() == [True, False]
    mask[0, 0, 0] = False
    assert channel_wise_loss(p, bad, mask).isfinite()


def test_half_precision_is_computed_in_float32():
    p, d = rand(1, 64, 64).half(), rand(1, 64, 64, seed=1).half()
    loss = channel_wise_loss(p, d, tau=0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, channel_wise_loss(p.float(), d.float(), tau=0.1))


def test_spatial_compares_channels_pixel_by_pixel():
    p, d = rand(2, 5, 3, 4), rand(2, 5, 3, 4, seed=1)
    mask = rand(2, 3, 4, seed=2) > 0.4
    want = 2.0**2 * F.kl_div((p / 2).log_softmax(1), (d / 2).log_softmax(1), reduction="none", log_target=True).sum(1)
    pixels = spatial_loss(p, d, mask, tau=2.0, reduction="none")
    torch.testing.assert_close(pixels, torch.where(mask, want, 0))
    image = [(want[i][mask[i]]).mean().item() for i in range(2)]
    assert spatial_loss(p, d, mask, tau=2.0).item() == pytest.approx(sum(image) / 2)


def test_spatial_is_refused_on_one_channel():
    for maps in ((2, 6, 6), (2, 1, 6, 6)):
        with pytest.raises(ValueError, match="always 0"):
            spatial_loss(rand(*maps), rand(*maps))
        assert rand(2, 1, 6, 6).softmax(1).eq(1).all(), "this is why"


def test_pairwise_equals_its_formula():
    f, g = rand(2, 3, 4, 4), rand(2, 5, 4, 4, seed=1)
    want = []
    for a, b in zip(f, g, strict=True):
        total = 0.0
        a, b = a.flatten(1).T, b.flatten(1).T
        for i in range(16):
            for j in range(16):
                total += (F.cosine_similarity(a[i], a[j], dim=0) - F.cosine_similarity(b[i], b[j], dim=0)).item() ** 2
        want.append(total / 16**2)
    assert pairwise_loss(f, g, grid=None, reduction="image").tolist() == pytest.approx(want)
    assert pairwise_loss(f, g, grid=16).item() == pytest.approx(sum(want) / 2)  # no more cells than there are places


def test_pairwise_pools_by_the_largest_value_and_bridges_grids():
    f, g = rand(1, 3, 8, 6), rand(1, 4, 4, 4, seed=1)
    pooled = F.max_pool2d(f, (4, 3))
    torch.testing.assert_close(pairwise_loss(f, g, grid=2), pairwise_loss(pooled, F.max_pool2d(g, 2), grid=None))
    rotation = torch.linalg.qr(rand(3, 3, seed=5)).Q
    turned = torch.einsum("oc,bchw->bohw", rotation, f)
    torch.testing.assert_close(pairwise_loss(turned, f, grid=None), torch.zeros((), dtype=torch.float64), rtol=0, atol=1e-12)
    with pytest.raises(ValueError, match="both grids must agree"):
        pairwise_loss(f, g, grid=None)


def test_pairwise_is_refused_on_one_channel_and_ignores_zero_places():
    with pytest.raises(ValueError, match="every cosine is 1 or -1"):
        pairwise_loss(rand(1, 1, 4, 4), rand(1, 3, 4, 4))
    f = rand(1, 3, 4, 4)
    f[..., 0, 0] = 0
    f.requires_grad_()
    pairwise_loss(f, rand(1, 3, 4, 4, seed=1), grid=None).backward()
    assert f.grad.isfinite().all()


def test_modules_and_wrong_options():
    p, d = rand(2, 3, 5, 5), rand(2, 3, 5, 5, seed=1)
    assert torch.equal(ChannelWiseLoss(tau=2.0, divergence="mse")(p, d), channel_wise_loss(p, d, tau=2.0, divergence="mse"))
    assert torch.equal(SpatialLoss(tau=2.0)(p, d), spatial_loss(p, d, tau=2.0))
    assert torch.equal(PairwiseLoss(grid=2)(p, d), pairwise_loss(p, d, grid=2))
    for bad in (lambda: ChannelWiseLoss(tau=0.0), lambda: SpatialLoss(tau=-1.0)):
        with pytest.raises(ValueError, match="tau must be above 0"):
            bad()
    with pytest.raises(ValueError, match="'kl' or 'mse'"):
        ChannelWiseLoss(divergence="js")
    with pytest.raises(ValueError, match="grid must be at least 1"):
        PairwiseLoss(grid=0)
    with pytest.raises(ValueError, match="one shape"):
        channel_wise_loss(p, d[:, :2])
    with pytest.raises(ValueError, match="mask must be bool"):
        channel_wise_loss(p, d, torch.ones(2, 5, 5))
