"""Squared error and SILog against plain loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.losses import MSELoss, SILogLoss, mse_loss, silog_loss
from dadkit.testing.strategies import pairs


def rand(*shape, seed=0, low=0.5):
    return low + torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@settings(settings.get_profile("losses"), max_examples=40)
@given(pair=pairs(dtype=torch.float64))
def test_mse_equals_its_formula(pair):
    want = [
        ((p - d)[m] ** 2).mean().item() if m.any() else 0.0 for p, d, m in zip(pair.pred, pair.target, pair.valid, strict=True)
    ]
    got = mse_loss(pair.pred, pair.target, pair.mask, reduction="image")
    assert got.tolist() == pytest.approx(want, rel=1e-9, abs=1e-12)
    assert mse_loss(pair.pred, pair.target, pair.mask).item() == pytest.approx(sum(want) / len(want), rel=1e-9, abs=1e-12)


def silog(p, d, lam):
    logs = [math.log(a) - math.log(b) for a, b in zip(p.tolist(), d.tolist(), strict=True)]
    mean = sum(logs) / len(logs)
    return math.sqrt(max(0.0, sum(x * x for x in logs) / len(logs) - lam * mean * mean))


@pytest.mark.parametrize("lam", [0.0, 0.5, 0.85, 1.0])
def test_silog_equals_its_formula(lam):
    p, d = rand(3, 7, 5), rand(3, 7, 5, seed=1)
    mask = torch.rand(3, 7, 5, generator=torch.Generator().manual_seed(2)) > 0.3
    mask[2] = False
    want = [silog(p[i][mask[i]], d[i][mask[i]], lam) for i in (0, 1)] + [0.0]
    assert silog_loss(p, d, mask, lam=lam, reduction="image").tolist() == pytest.approx(want)
    assert silog_loss(p, d, mask, lam=lam).item() == pytest.approx(sum(want) / 3)
    assert silog_loss(p, d, mask, lam=lam, reduction="pixel").item() == pytest.approx(silog(p[mask], d[mask], lam))
    assert silog_loss(p[:, None], d[:, None], mask[:, None], lam=lam).item() == pytest.approx(sum(want) / 3)


def test_silog_invariances_and_gradient():
    p, d = rand(2, 6, 6).requires_grad_(), rand(2, 6, 6, seed=1)
    assert torch.autograd.gradcheck(lambda x: silog_loss(x, d, lam=0.85, reduction="image"), p)
    torch.testing.assert_close(silog_loss(3 * p, 3 * d, lam=0.5), silog_loss(p, d, lam=0.5))
    torch.testing.assert_close(silog_loss(7 * p, d, lam=1.0), silog_loss(p, d, lam=1.0))
    assert silog_loss(7 * p, d, lam=0.5) > silog_loss(p, d, lam=0.5)


def test_silog_leaves_out_what_lies_outside_the_limits():
    p, d = rand(1, 4, 4), rand(1, 4, 4, seed=1)
    kept = torch.zeros(1, 4, 4, dtype=torch.bool)
    kept[0, 1:3] = True
    far = d.clone()
    far[0, 0] = torch.inf  # sky
    far[0, 3, :2], far[0, 3, 2:] = 90.0, 0.0
    assert silog_loss(p, far, max_depth=80.0).item() == pytest.approx(silog_loss(p, d, kept).item())
    assert silog_loss(p, far).isinf() or silog_loss(p, far).isnan(), "without a limit an infinite target is an error to be seen"


def test_silog_degenerate_predictions():
    d = rand(1, 3, 3)
    p = torch.zeros(1, 3, 3, dtype=torch.float64, requires_grad=True)
    loss = silog_loss(p, d, floor=1e-3)
    assert loss.item() == pytest.approx(silog(torch.full((9,), 1e-3), d.flatten(), 0.5))
    loss.backward()
    assert torch.count_nonzero(p.grad) == 0
    same = d.clone().requires_grad_()
    silog_loss(same, d).backward()
    assert same.grad.tolist() == torch.zeros_like(d).tolist()
    bad = d.clone()
    bad[0, 0, 0] = torch.nan
    assert silog_loss(bad, d).isnan()
    assert silog_loss(d, bad, max_depth=80.0).isnan()


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"lam": 1.5}, "lam must be"),
        ({"floor": 0.0}, "floor must be above 0"),
        ({"min_depth": 5.0, "max_depth": 2.0}, "max_depth must be above min_depth"),
        ({"reduction": "none"}, "no sum"),
    ],
)
def test_wrong_options_are_refused_at_construction_too(option, message):
    for call in (lambda: SILogLoss(**option), lambda: silog_loss(rand(1, 2, 2), rand(1, 2, 2), **option)):
        with pytest.raises(ValueError, match=message):
            call()


def test_modules_say_what_the_functionals_say():
    p, d = rand(2, 5, 5), rand(2, 5, 5, seed=1)
    module = SILogLoss(lam=0.85, max_depth=1.2)
    assert module.label == "silog-0.85"
    assert torch.equal(module(p, d), silog_loss(p, d, lam=0.85, max_depth=1.2))
    assert torch.equal(MSELoss(trim=0.1)(p, d), mse_loss(p, d, trim=0.1))
    module.check_space("metric")
    with pytest.raises(ValueError, match="space 'disparity'"):
        module.check_space("disparity")


@settings(settings.get_profile("losses"), max_examples=20)
@given(pair=pairs(dtype=torch.float32), lam=st.sampled_from([0.5, 1.0]))
def test_silog_is_finite_and_not_negative_on_everything_positive(pair, lam):
    p, d = pair.pred.abs() + 0.1, pair.target.abs() + 0.1
    loss = silog_loss(p.requires_grad_(), d, pair.mask, lam=lam)
    assert loss >= 0
    loss.backward()
    assert p.grad.isfinite().all()
