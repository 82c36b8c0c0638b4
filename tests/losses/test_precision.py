"""Input dtypes, memory layouts, autocast."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.losses import (
    feature_alignment_loss,
    gradient_matching_loss,
    hybrid_norm_loss,
    l1_loss,
    local_global_loss,
    median_mad,
    normalize,
    scale_anchor_loss,
    ssi_loss,
)
from dadkit.testing.strategies import pairs

BOXES = torch.tensor([[[0.5, 1.0, 8.25, 9.0], [2.0, 2.0, 10.0, 12.0]]])
LOSSES = {
    "hybrid": hybrid_norm_loss,
    "hdn": lambda p, d: hybrid_norm_loss(p, d, variant="hdn"),
    "ssi": ssi_loss,
    "l1": l1_loss,
    "gradient": gradient_matching_loss,
    "local-global": lambda p, d: local_global_loss(p, d[:, None, :8, :8].expand(-1, 2, -1, -1), BOXES.expand(len(p), 2, 4)),
    "anchor": lambda p, d: scale_anchor_loss(p, d, target_scale=0.5),
    "feature": feature_alignment_loss,
}


def maps(dtype=torch.float32, seed=0):
    return torch.rand(2, 2, 16, 12, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_losses_are_computed_in_float32_or_more_and_gradients_keep_the_inputs_dtype(name, dtype):
    pred, target = maps(dtype)
    pred.requires_grad_()
    loss = LOSSES[name](pred, target)
    loss.backward()
    assert loss.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert pred.grad.dtype == dtype
    wide = pred.detach().to(loss.dtype).requires_grad_()
    want = LOSSES[name](wide, target.to(loss.dtype))
    want.backward()
    assert torch.equal(loss, want), "half precision is converted, not computed in"
    assert torch.equal(pred.grad, wide.grad.to(dtype))


def test_mixed_dtypes_take_the_wider():
    pred, target = maps()
    assert hybrid_norm_loss(pred.bfloat16(), target).dtype == torch.float32
    assert hybrid_norm_loss(pred.half(), target.double()).dtype == torch.float64
    assert hybrid_norm_loss(pred.double(), target).dtype == torch.float64


@settings(settings.get_profile("losses"), max_examples=60)
@given(
    pair=pairs(kinds=("smooth", "noise", "sky", "quantised"), max_side=40), loss=st.sampled_from(["hybrid", "ssi", "gradient"])
)
def test_float32_is_close_to_float64(pair, loss):
    """Up to pixels that round to the other side of an edge, which belong to the target: values are made in float32 first."""
    wide = LOSSES[loss](pair.pred.double(), pair.target.double())
    narrow = LOSSES[loss](pair.pred, pair.target)
    if loss == "hybrid":  # edges round differently in the two dtypes; compare only where no pixel changes its segment
        same = normalize(pair.target.double(), segments=(1, 2, 4)) - normalize(pair.target, segments=(1, 2, 4)).double()
        if same.abs().max() > 1e-3:
            return
    torch.testing.assert_close(narrow.double(), wide, rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("name", LOSSES)
def test_non_contiguous_and_expanded_inputs(name):
    pred, target = maps()
    want = LOSSES[name](pred, target)
    strided = [torch.stack([x, -x], -1)[..., 0] for x in (pred, target)]
    assert not strided[0].is_contiguous()
    torch.testing.assert_close(LOSSES[name](*strided), want, rtol=1e-6, atol=1e-7)
    flipped = [x.mT.contiguous().mT for x in (pred, target)]
    torch.testing.assert_close(LOSSES[name](*flipped), want, rtol=1e-6, atol=1e-7)
    repeated = pred[:1].expand(2, -1, -1).requires_grad_()
    LOSSES[name](repeated, target).backward()


def test_autocast_changes_nothing():
    pred, target = maps()
    want = [loss(pred, target) for loss in LOSSES.values()]
    with torch.autocast("cpu", torch.bfloat16):
        got = [loss(pred, target) for loss in LOSSES.values()]
    assert got == want


def test_targets_get_no_gradient():
    for name, loss in LOSSES.items():
        pred, target = (x.clone().requires_grad_() for x in maps())
        loss(pred, target).backward()
        assert pred.grad is not None, name
        assert target.grad is None, name


def test_median_mad_of_half_precision():
    x = maps(torch.bfloat16)[0]
    median, mad = median_mad(x)
    assert median.dtype == mad.dtype == torch.float32


def test_gradcheck():
    generator = torch.Generator().manual_seed(3)
    pred = torch.rand(2, 6, 7, dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.rand(2, 6, 7, dtype=torch.float64, generator=generator)
    boxes = torch.tensor([[[0.5, 0.2, 6.0, 5.5]]], dtype=torch.float64).expand(2, 1, 4)
    patches = torch.rand(2, 1, 5, 6, dtype=torch.float64, generator=generator)
    for loss in (
        lambda p: hybrid_norm_loss(p, target, min_pixels=4),
        lambda p: hybrid_norm_loss(p, target, variant="hdn"),
        lambda p: gradient_matching_loss(p, target),
        lambda p: local_global_loss(p, patches, boxes, min_pixels=4),
        lambda p: scale_anchor_loss(p, target, target_scale=0.3),
        lambda p: feature_alignment_loss(p, target),
        lambda p: sum(median_mad(p)),
    ):
        assert torch.autograd.gradcheck(loss, (pred,), eps=1e-7, atol=1e-5)
