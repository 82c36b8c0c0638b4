"""The fused gradient matching loss against the reference, and what else it promises."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dadkit.losses import gradient_matching_loss
from dadkit.ops import reference

quiet = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
cases = st.fixed_dictionaries(
    {
        "shape": st.tuples(
            st.integers(0, 3), st.sampled_from((1, 2, 5, 16, 17, 41, 67)), st.sampled_from((1, 3, 7, 16, 33, 103))
        ),
        "kind": st.sampled_from(("smooth", "noise", "quantised", "sky", "ramp", "offset", "outlier", "constant")),
        "mask": st.sampled_from((None, 0.0, 0.5, 0.9, 1.0)),
        "seed": st.integers(0, 99),
        "scales": st.sampled_from((1, 2, 4, 7)),
        "normalize": st.booleans(),
        "reduction": st.sampled_from(("mean", "pixel", "image", "none")),
    }
)


def _run(function, pred, *args, **options):
    pred = pred.clone().requires_grad_()
    value = function(pred, *args, **options)
    weight = torch.linspace(0.5, 2, max(value.numel(), 1), dtype=value.dtype)[: value.numel()].view(value.shape)
    return value.detach(), torch.autograd.grad((value * weight).sum(), pred)[0]


def _split(case, pair, dtype):
    case = dict(case)
    shape, kind, share, seed = (case.pop(k) for k in ("shape", "kind", "mask", "seed"))
    pred, target = pair(shape, kind, dtype, seed)
    mask = None if share is None else torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    return pred, target, mask, case


def _smooth(pred, target, options) -> bool:
    """Whether no two residuals agree up to rounding, so that the sign of their difference is no matter of taste."""
    if options["normalize"]:
        pred, target = (reference.normalize(x)[:, 0] for x in (pred, target))
    r = pred - target
    size = 1 + r.abs().amax() if r.numel() else 1
    strides = [2**k for k in range(options["scales"])]
    steps = [r[:, ::s, ::s].diff(dim=d).abs() for s in strides for d in (1, 2)]
    return all(bool((e > 1e-10 * size).all()) for e in steps)


@quiet
@given(cases)
def test_matches_the_reference_in_float64(fused, pair, case):
    pred, target, mask, options = _split(case, pair, torch.float64)
    value, gradient = _run(fused.gradient_matching_loss, pred, target, mask, **options)
    expected, slope = _run(reference.gradient_matching_loss, pred, target, mask, **options)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)
    if _smooth(pred, target, options):
        scale = float(slope.abs().max()) if slope.numel() else 0.0
        torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-10 * scale + 1e-18)


@quiet
@given(cases)
def test_matches_the_reference_in_float32(fused, pair, case):
    pred, target, mask, options = _split(case, pair, torch.float32)
    value, gradient = _run(fused.gradient_matching_loss, pred, target, mask, **options)
    expected, slope = _run(reference.gradient_matching_loss, pred.double(), target.double(), mask, **options)
    if case["kind"] not in {"smooth", "noise", "sky"} or slope.numel() == 0:
        return
    torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-5)
    error = gradient.double() - slope
    assert error.norm() <= 0.02 * slope.norm() + 1e-9  # the sign of a difference near 0 may flip: single pairs
    assert abs(error.mean()) <= 1e-3 * slope.abs().mean() + 1e-9


@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_every_instruction_set(fused, pair, isa, dtype, reduction, monkeypatch):
    monkeypatch.setenv("DADKIT_ISA", isa)
    pred, target = pair((2, 75, 149), "smooth", dtype)
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(3)) < 0.9
    for m in (None, mask):
        value, gradient = _run(fused.gradient_matching_loss, pred, target, m, reduction=reduction)
        expected, slope = _run(reference.gradient_matching_loss, pred.double(), target.double(), m, reduction=reduction)
        single = dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-5 if single else 1e-12, atol=1e-5 if single else 1e-12)
        assert (gradient.double() - slope).norm() <= (0.02 if single else 1e-10) * slope.norm()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["pred", "target"])
@pytest.mark.parametrize("reduction", ["image", "none"])
@pytest.mark.parametrize("normalize", [True, False])
def test_not_finite_poisons_its_own_image_inside_the_mask_and_nothing_outside(fused, pair, bad, where, reduction, normalize):
    pred, target = pair((2, 20, 30), "smooth")
    (pred if where == "pred" else target)[0, 3, 4] = bad
    inside, outside = torch.rand(pred.shape) < 0.8, torch.ones(pred.shape, dtype=torch.bool)
    inside[0, 3, 4], outside[0, 3, 4] = True, False
    for mask in (inside, outside, None):
        options = {"reduction": reduction, "normalize": normalize}
        value, gradient = _run(fused.gradient_matching_loss, pred, target, mask, **options)
        expected, slope = _run(reference.gradient_matching_loss, pred, target, mask, **options)
        torch.testing.assert_close(value, expected, equal_nan=True)
        torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-12, equal_nan=True)


def test_constant_maps(fused, pair):
    pred, target = pair((1, 30, 40), "noise")
    flat = torch.full_like(pred, 3.25)
    for p, d in ((pred, flat), (flat, target), (flat, flat)):
        value, gradient = _run(fused.gradient_matching_loss, p, d)
        torch.testing.assert_close(value, reference.gradient_matching_loss(p, d))
        assert not gradient.any()


@pytest.mark.parametrize("masked", [False, True])
def test_gradient_keeps_shift_and_scale(fused, pair, masked):
    pred, target = pair((2, 60, 70), "smooth")
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(0)) < 0.7 if masked else None
    pred.requires_grad_()
    (slope,) = torch.autograd.grad(fused.gradient_matching_loss(pred, target, mask), pred)
    size = slope.abs().sum()
    assert abs(slope.sum()) <= 1e-10 * size
    assert abs((slope * pred.detach()).sum()) <= 1e-9 * size


def test_gradcheck(fused, pair):
    pred, target = pair((2, 6, 9), "noise")
    pred.requires_grad_()
    for options in ({"reduction": "none"}, {"scales": 2}, {"normalize": False, "reduction": "none"}):
        assert torch.autograd.gradcheck(
            lambda p, o=options: fused.gradient_matching_loss(p, target, **o), pred, eps=1e-7, atol=1e-5
        )


def test_threads_change_nothing(pair):
    pred, target = pair((1, 131, 90), "smooth", torch.float32)
    answers = []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        answers.append(_run(gradient_matching_loss, pred, target, backend="fused"))
    for value, slope in answers[1:]:
        assert torch.equal(value, answers[0][0])
        assert torch.equal(slope, answers[0][1])


def test_transforms(pair):
    pred, target = pair((4, 24, 40), "smooth", torch.float32)

    def loss(p, d):
        return gradient_matching_loss(p, d, backend="fused")

    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    a, b = pred.clone().requires_grad_(), pred.clone().requires_grad_()
    x, y = compiled(a, target), loss(b, target)
    assert torch.equal(x, y)
    assert torch.equal(torch.autograd.grad(x, a)[0], torch.autograd.grad(y, b)[0])
    pairs = pred.view(2, 2, 24, 40), target.view(2, 2, 24, 40)
    each = torch.vmap(torch.func.grad(loss))(*pairs)
    for k in range(2):
        torch.testing.assert_close(each[k], torch.func.grad(loss)(pairs[0][k], pairs[1][k]))
    arguments = (pred, target, None, 4, True, True)
    torch.library.opcheck(torch.ops.dadkit.gradient_matching_forward.default, arguments)
    slope = torch.autograd.grad(loss(b, target), b, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="second derivatives"):
        slope.sum().backward()
