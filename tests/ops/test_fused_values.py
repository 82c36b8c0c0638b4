"""Values and gradients of the fused operators against the reference, over the whole documented domain."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dadkit.ops import fused as fused_operators
from dadkit.ops import reference
from dadkit.ops.reference import NormOptions

KINDS = ("smooth", "noise", "quantised", "sky", "ramp", "offset", "outlier", "constant")
SEGMENTS = ((1,), (4,), (1, 2, 4), (2, 8), (8, 1, 2, 4))
quiet = settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)

cases = st.fixed_dictionaries(
    {
        "shape": st.tuples(
            st.integers(0, 3), st.sampled_from((1, 2, 5, 16, 41, 67, 131)), st.sampled_from((1, 3, 7, 16, 33, 103, 149))
        ),
        "kind": st.sampled_from(KINDS),
        "mask": st.sampled_from((None, 0.0, 0.02, 0.5, 0.9, 1.0)),
        "seed": st.integers(0, 99),
        "segments": st.sampled_from(SEGMENTS),
        "partition": st.sampled_from(("range", "quantile", "grid")),
        "variant": st.sampled_from(("dadkit", "hdn")),
        "reduction": st.sampled_from(("mean", "pixel", "image", "none")),
        "range_clip": st.sampled_from(((0.0, 1.0), (0.02, 0.9))),
        "trim": st.sampled_from((0.0, 0.0, 0.2)),
        "detach_median": st.booleans(),
        "min_pixels": st.sampled_from((1, 16, 40)),
    }
)


def _split(case, pair, dtype):
    case = dict(case)
    shape, kind, share, seed = (case.pop(k) for k in ("shape", "kind", "mask", "seed"))
    pred, target = pair(shape, kind, dtype, seed)
    mask = None if share is None else torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
    packed = NormOptions(**{name: case.pop(name) for name in NormOptions._fields if name in case})
    return pred, target, mask, {"options": packed, **case}


def _ambiguous(pred, target, mask, options) -> bool:
    """Whether some N(p) and N(d) agree up to rounding, so that the sign of their difference is a matter of taste."""
    a, b = (reference.normalize(x, mask, options["options"], reference=target) for x in (pred, target))
    close = (a - b).abs() <= 1e-9 * (1 + a.abs())
    return bool((close & ((a != 0) | (b != 0))).any())


def _value_and_gradient(function, pred, *args, **options):
    pred = pred.clone().requires_grad_()
    value = function(pred, *args, **options)
    weight = torch.linspace(0.5, 2, max(value.numel(), 1), dtype=value.dtype)[: value.numel()].view(value.shape)
    return value.detach(), torch.autograd.grad((value * weight).sum(), pred)[0]


@quiet
@given(cases)
def test_loss_matches_the_reference_in_float64(fused, pair, case):
    pred, target, mask, options = _split(case, pair, torch.float64)
    value, gradient = _value_and_gradient(fused.hybrid_norm_loss, pred, target, mask, **options)
    expected, slope = _value_and_gradient(reference.hybrid_norm_loss, pred, target, mask, **options)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)
    if not options["trim"] and not _ambiguous(pred, target, mask, options):
        scale = float(slope.abs().max()) if slope.numel() else 0.0
        torch.testing.assert_close(gradient, slope, rtol=1e-7, atol=1e-9 * scale + 1e-18)


@quiet
@given(cases)
def test_loss_matches_the_reference_in_float32(fused, pair, case):
    pred, target, mask, options = _split(case, pair, torch.float32)
    value, gradient = _value_and_gradient(fused.hybrid_norm_loss, pred, target, mask, **options)
    expected, slope = _value_and_gradient(reference.hybrid_norm_loss, pred, target, mask, **options)
    if case["kind"] in {"offset", "outlier", "constant"} and case["variant"] == "hdn":
        return  # conditioning: deviations near hdn's epsilon, in float32
    if case["kind"] in {"smooth", "noise", "ramp", "sky"}:
        torch.testing.assert_close(value, expected, rtol=3e-4 if case["trim"] else 1e-5, atol=1e-5)
    if case["kind"] in {"smooth", "noise", "sky"} and not options["trim"] and slope.numel() and slope.abs().max() > 0:
        error, exact = (gradient - slope).double(), slope.double()
        flipped = error.abs() > 1e-3 * exact.abs().max()  # single pixels whose two normalised values agree up to rounding
        assert flipped.sum() <= 1 + slope.numel() / 5000
        assert error[~flipped].norm() <= 1e-4 * exact.norm()
        assert abs(error.mean()) <= 1e-5 * exact.abs().mean()  # no systematic part


@quiet
@given(cases)
def test_normalize_matches_the_reference(fused, pair, case):
    pred, target, mask, options = _split(case, pair, torch.float64)
    value, gradient = _value_and_gradient(fused.normalize, pred, mask, options["options"], reference=target)
    expected, slope = _value_and_gradient(reference.normalize, pred, mask, options["options"], reference=target)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-10)
    if case["kind"] != "constant":
        scale = float(slope.abs().max()) if slope.numel() else 0.0
        torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-8 * scale + 1e-9)


@quiet
@given(cases)
def test_statistics_match_the_reference(fused, pair, case):
    _, target, mask, options = _split(case, pair, torch.float64)
    if case["kind"] == "constant" and case["variant"] == "hdn":
        return
    for got, expected in zip(
        fused.target_statistics(target, mask, options["options"]),
        reference.target_statistics(target, mask, options["options"]),
        strict=True,
    ):
        assert got.dtype == expected.dtype
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-12)


@quiet
@given(cases)
def test_cached_statistics_change_nothing(fused, pair, case):
    pred, target, mask, options = _split(case, pair, torch.float32)
    stats = fused.target_statistics(target, mask, options["options"])
    plain = fused.hybrid_norm_loss(pred, target, mask, **options)
    assert torch.equal(plain, fused.hybrid_norm_loss(pred, target, mask, target_stats=stats, **options))


@quiet
@given(cases)
def test_median_and_deviation_match_the_reference(fused, pair, case):
    pred, _, mask, _ = _split(case, pair, torch.float64)
    values, slopes = [], []
    for module in (fused, reference):
        x = pred.clone().requires_grad_()
        median, mad = module.median_mad(x, mask)
        values.append((median.detach(), mad.detach()))
        slopes.append(torch.autograd.grad((2 * median - 3 * mad).sum(), x)[0])
    assert torch.equal(values[0][0], values[1][0])
    torch.testing.assert_close(values[0][1], values[1][1], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(*slopes, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", ["smooth", "noise", "sky", "quantised"])
def test_every_instruction_set_at_sizes_that_need_brackets(fused, pair, isa, dtype, kind, monkeypatch):
    from dadkit.ops.build_info import describe

    if f"in use: {isa}" not in describe()["instruction sets"] and isa != "plain":
        monkeypatch.setenv("DADKIT_ISA", isa)
        if f"in use: {isa}" not in describe()["instruction sets"]:
            pytest.skip(f"this processor or this build has no {isa}")
    monkeypatch.setenv("DADKIT_ISA", isa)
    pred, target = pair((2, 211, 307), kind, dtype)
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(3)) < 0.9
    tolerance = 2e-5 if dtype == torch.float32 else 1e-10
    for m in (None, mask):
        torch.testing.assert_close(
            fused.hybrid_norm_loss(pred, target, m, reduction="image"),
            reference.hybrid_norm_loss(pred, target, m, reduction="image"),
            rtol=tolerance,
            atol=tolerance,
        )
        assert torch.equal(fused.median_mad(pred, m)[0], reference.median_mad(pred, m)[0])
        got, expected = fused.target_statistics(target, m), reference.target_statistics(target, m)
        assert torch.equal(got.count, expected.count)  # membership
        assert torch.equal(got.median, expected.median)  # order statistics are exact


@pytest.mark.parametrize("kind", KINDS)
def test_deviations_keep_their_digits_at_sizes_that_need_brackets(pair, kind):
    """They come out of sums about a pivot: an offset or an outlier must not cancel them."""
    pred, _ = pair((2, 211, 307), kind, torch.float32)
    median, mad = fused_operators.median_mad(pred)
    exact = (pred.double() - median.double()[:, None, None]).abs().mean((1, 2))
    torch.testing.assert_close(mad.double(), exact, rtol=2e-6, atol=0)


@pytest.mark.parametrize("partition", ["range", "quantile", "grid"])
@pytest.mark.parametrize("segments", [(1, 2, 4), (4,)])
def test_gradient_keeps_shift_and_scale(fused, pair, partition, segments):
    pred, target = pair((2, 60, 70), "smooth")
    pred.requires_grad_()
    fused.hybrid_norm_loss(pred, target, options=NormOptions(segments, partition)).backward()
    size = pred.grad.abs().sum()
    assert abs(pred.grad.sum()) <= 1e-10 * size
    assert abs((pred.grad * pred.detach()).sum()) <= 1e-9 * size


@pytest.mark.parametrize("variant", ["dadkit", "hdn"])
@pytest.mark.parametrize("segments", [(1, 2, 4), (1,), (4,)])
def test_gradcheck(fused, pair, variant, segments):
    pred, target = pair((2, 6, 9), "noise")
    pred.requires_grad_()
    options = NormOptions(segments, variant=variant, min_pixels=3)
    assert torch.autograd.gradcheck(
        lambda p: fused.hybrid_norm_loss(p, target, None, options, reduction="none"), pred, eps=1e-7, atol=1e-5
    )
    assert torch.autograd.gradcheck(lambda p: fused.normalize(p, None, options, reference=target), pred, eps=1e-7, atol=1e-4)
    assert torch.autograd.gradcheck(fused.median_mad, pred, eps=1e-7, atol=1e-5)


def test_a_flat_segment_of_the_prediction_keeps_the_floors_gradient(fused, pair):
    pred, target = pair((1, 40, 50), "noise")
    pred = torch.where(target > 0.6, 2 + 1e-4 * pred, pred)
    value, gradient = _value_and_gradient(fused.hybrid_norm_loss, pred, target, options=NormOptions((4,)))
    expected, slope = _value_and_gradient(reference.hybrid_norm_loss, pred, target, options=NormOptions((4,)))
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient, slope, rtol=1e-7, atol=1e-12)
    assert abs((gradient * pred).sum()) <= 1e-9 * (gradient * pred).abs().sum()
