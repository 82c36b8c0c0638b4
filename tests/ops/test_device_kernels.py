"""The device kernels of csrc/device, run on the CPU thread after thread, against the reference.

The same code runs on a GPU; there only the launches differ, which test_fused_cuda.py holds to the same values.
"""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dadkit.ops import fused, reference
from dadkit.ops.reference.options import NormOptions

NUMBERS = {"range": 0, "quantile": 1, "grid": 2, "dadkit": 0, "hdn": 1}

cases = st.fixed_dictionaries(
    {
        "shape": st.tuples(st.integers(0, 2), st.sampled_from((1, 5, 16, 41)), st.sampled_from((1, 7, 33, 50))),
        "kind": st.sampled_from(("smooth", "noise", "sky", "ramp", "offset", "outlier", "constant")),
        "mask": st.sampled_from((None, 0.0, 0.5, 0.9)),
        "seed": st.integers(0, 99),
        "segments": st.sampled_from(((1,), (4,), (1, 2, 4), (2, 8))),
        "partition": st.sampled_from(("range", "quantile", "grid")),
        "variant": st.sampled_from(("dadkit", "hdn")),
        "per_pixel": st.booleans(),
        "cached": st.booleans(),
    }
)


def emulated(pred, target, mask, weight, options: NormOptions, per_pixel: bool, stats):
    ops = torch.ops.dadkit_emulated
    kind = (list(options.segments), NUMBERS[options.partition], NUMBERS[options.variant])
    given_stats = fused._given(target, mask, options, stats)
    total, number, losses, counted, state = ops.hybrid_forward(
        pred, target, mask, *given_stats, *kind, options.min_pixels, options.mad_floor, per_pixel
    )
    gradient = ops.hybrid_backward(weight, pred, target, mask, state, *kind, options.mad_floor, options.detach_median)
    return total, number, losses, counted, gradient


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(cases)
def test_emulated_kernels_match_the_reference(pair, case):
    pred, target = pair(case["shape"], case["kind"], torch.float64, case["seed"])
    mask = None
    if case["mask"] is not None:
        mask = torch.rand(case["shape"], generator=torch.Generator().manual_seed(case["seed"])) < case["mask"]
    kind = {k: case[k] for k in ("segments", "partition", "variant")}
    stats = fused.target_statistics(target, mask, **kind) if case["cached"] else None
    options = NormOptions(**kind)
    per_pixel = case["per_pixel"]
    weight = torch.linspace(0.5, 2, pred.numel(), dtype=torch.float64).view(pred.shape)
    weight = weight if per_pixel else torch.linspace(0.5, 2, pred.shape[0], dtype=torch.float64)
    total, number, losses, _, gradient = emulated(pred, target, mask, weight, options, per_pixel, stats)

    p = pred.clone().requires_grad_()
    expected = reference.hybrid_norm_loss(p, target, mask, reduction="none", **kind)
    share = weight if per_pixel else weight[:, None, None]
    slope = torch.autograd.grad((expected * share).sum(), p)[0]
    torch.testing.assert_close(total, expected.detach().sum((1, 2)), rtol=1e-7, atol=1e-9)
    image = reference.hybrid_norm_loss(pred, target, mask, reduction="image", **kind)
    torch.testing.assert_close(total / number.clamp(min=1), image, rtol=1e-7, atol=1e-9)
    if per_pixel:
        torch.testing.assert_close(losses, expected.detach(), rtol=1e-7, atol=1e-9)
    if case["kind"] != "constant":
        scale = float(slope.abs().max()) if slope.numel() else 0.0
        torch.testing.assert_close(gradient, slope, rtol=1e-6, atol=1e-7 * scale + 1e-15)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["pred", "target"])
def test_emulated_kernels_poison_one_image_only(pair, bad, where):
    pred, target = pair((2, 12, 15), "smooth", torch.float32)
    (pred if where == "pred" else target)[0, 2, 3] = bad
    total, _, _, _, gradient = emulated(pred, target, None, torch.ones(2), NormOptions(), False, None)
    assert total.isnan().tolist() == [True, False]
    assert gradient[0].isnan().all()
    assert gradient[1].isfinite().all()


def test_emulated_kernels_ignore_what_lies_outside_the_mask(pair):
    pred, target = pair((1, 12, 15), "smooth", torch.float32)
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    clean = emulated(pred, target, mask, torch.ones(1), NormOptions(), False, None)
    dirty = emulated(
        torch.where(mask, pred, torch.nan),
        torch.where(mask, target, torch.inf),
        mask,
        torch.ones(1),
        NormOptions(),
        False,
        None,
    )
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[4], dirty[4])
