"""The fused local-global loss against the reference: boxes of every kind, masks, reductions, poison."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dadkit.ops import reference
from dadkit.ops.reference import NormOptions

cases = st.fixed_dictionaries(
    {
        "batch": st.integers(0, 2),
        "map": st.tuples(st.sampled_from((1, 9, 31, 60)), st.sampled_from((1, 11, 43, 50))),
        "patch": st.tuples(st.sampled_from((1, 7, 20, 48)), st.sampled_from((1, 5, 28, 56))),
        "patches": st.integers(1, 3),
        "mask": st.booleans(),
        "pred_mask": st.booleans(),
        "seed": st.integers(0, 99),
        "options": st.fixed_dictionaries(
            {
                "segments": st.sampled_from(((1, 2, 4), (1,), (4,))),
                "partition": st.sampled_from(("range", "quantile", "grid")),
                "variant": st.sampled_from(("dadkit", "hdn")),
                "reduction": st.sampled_from(("mean", "pixel", "image", "none")),
                "trim": st.sampled_from((0.0, 0.0, 0.25)),
                "min_pixels": st.sampled_from((1, 16)),
            }
        ),
    }
)


def _boxes(batch, patches, size, generator):
    height, width = size
    side = torch.tensor([width, height], dtype=torch.float64)
    low = torch.rand(batch, patches, 2, generator=generator, dtype=torch.float64) * side * 0.7 - 1.3
    extent = (torch.rand(batch, patches, 2, generator=generator, dtype=torch.float64) * 0.5 + 0.2) * side
    return torch.cat([low, low + extent], dim=-1)


def _run(function, pred, *args, **options):
    pred = pred.clone().requires_grad_()
    value = function(pred, *args, **options)
    weight = torch.linspace(0.5, 2, max(1, value.numel()), dtype=value.dtype)[: value.numel()].view(value.shape)
    return value.detach(), torch.autograd.grad((value * weight).sum(), pred)[0]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(cases)
def test_matches_the_reference(fused, case):
    generator = torch.Generator().manual_seed(case["seed"])
    batch, (height, width), (h, w), patches = case["batch"], case["map"], case["patch"], case["patches"]
    pred = torch.randn(batch, height, width, generator=generator, dtype=torch.float64)
    target = torch.randn(batch, patches, h, w, generator=generator, dtype=torch.float64)
    boxes = _boxes(batch, patches, (height, width), generator)
    if patches == 3 and batch:
        boxes[0, 1] = torch.tensor([3.0, 3.0, 3.0, 9.0])  # without area
        boxes[-1, 2] = torch.tensor([0.0, 0.0, float(w), float(h)])  # a crop
    mask = torch.rand(target.shape, generator=generator) < 0.8 if case["mask"] else None
    pred_mask = torch.rand(pred.shape, generator=generator) < 0.9 if case["pred_mask"] else None
    options = dict(case["options"])
    norm = NormOptions(**{name: options.pop(name) for name in NormOptions._fields if name in options})
    arguments = (pred, target, boxes, mask, norm)
    value, gradient = _run(fused.local_global_loss, *arguments, pred_mask=pred_mask, **options)
    expected, slope = _run(reference.local_global_loss, *arguments, pred_mask=pred_mask, **options)
    torch.testing.assert_close(value, expected, rtol=1e-9, atol=1e-11)
    if min(height, width) > 1:  # a patch of one constant is flat up to rounding only
        scale = float(slope.abs().max()) if slope.numel() else 0.0
        torch.testing.assert_close(gradient, slope, rtol=1e-7, atol=1e-9 * scale + 1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("isa", ["plain", "avx2", "avx512"])
def test_larger_patches(fused, pair, dtype, isa, monkeypatch):
    monkeypatch.setenv("DADKIT_ISA", isa)
    pred, _ = pair((2, 150, 170), "smooth", dtype)
    target = torch.stack([pair((2, 140, 151), "smooth", dtype, seed=k)[1] for k in range(3)], dim=1)
    boxes = torch.tensor([[3.3, 2.1, 90.7, 101.9], [40, 30, 191, 170], [60.5, 10.25, 150.5, 99.0]]).repeat(2, 1, 1)
    value, gradient = _run(fused.local_global_loss, pred, target, boxes)
    expected, slope = _run(reference.local_global_loss, pred, target, boxes)
    single = dtype == torch.float32
    torch.testing.assert_close(value, expected, rtol=1e-5 if single else 1e-10, atol=1e-7)
    assert (gradient - slope).norm() <= (0.02 if single else 1e-8) * slope.norm()  # float32: single signs may flip
    assert abs(float(gradient.sum())) <= (1e-3 if single else 1e-10) * float(gradient.abs().sum())


def test_a_crop_is_the_loss_of_the_crop_itself(fused, pair):
    pred, _ = pair((1, 60, 80), "smooth")
    target = pair((1, 40, 50), "noise")[1]
    boxes = torch.tensor([[[7.0, 11.0, 57.0, 51.0]]], dtype=torch.float64)
    crop = pred[:, 11:51, 7:57]
    assert torch.equal(fused.local_global_loss(pred, target[:, None], boxes), fused.hybrid_norm_loss(crop, target))


def test_poison_reaches_what_the_patch_reads_and_nothing_else(fused, pair):
    pred, _ = pair((2, 40, 50), "smooth")
    target = torch.stack([pair((2, 16, 16), "noise", seed=k)[1] for k in range(2)], dim=1)
    boxes = torch.tensor([[[2.0, 2.0, 18.0, 18.0], [20.3, 20.1, 45.2, 39.9]]], dtype=torch.float64).repeat(2, 1, 1)
    pred[0, 5, 5] = torch.nan
    value, gradient = _run(fused.local_global_loss, pred, target, boxes, reduction="image")
    expected, slope = _run(reference.local_global_loss, pred, target, boxes, reduction="image")
    torch.testing.assert_close(value, expected, equal_nan=True)
    assert torch.equal(gradient.isnan(), slope.isnan())
    torch.testing.assert_close(gradient[1], slope[1], rtol=1e-8, atol=1e-12)


def test_gradcheck(fused):
    generator = torch.Generator().manual_seed(1)
    pred = torch.randn(1, 12, 14, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.randn(1, 2, 9, 8, generator=generator, dtype=torch.float64)
    boxes = torch.tensor([[[0.4, 1.2, 9.7, 10.1], [3.0, 2.0, 13.0, 11.5]]], dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda p: fused.local_global_loss(p, target, boxes, None, NormOptions(min_pixels=2)), pred, eps=1e-7, atol=1e-5
    )
