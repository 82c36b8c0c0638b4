"""Poison, emptiness, strides, dtypes: what must hold where there is little or nothing to normalise."""

from __future__ import annotations

import pytest
import torch

from dadkit.losses import hybrid_norm_loss
from dadkit.ops import reference
from dadkit.ops.reference import NormOptions

BAD = (float("nan"), float("inf"), -float("inf"))


def _both(fused, pred, target, mask=None, **options):
    answers = []
    norm = NormOptions(**{name: options.pop(name) for name in NormOptions._fields if name in options})
    for module in (fused, reference):
        p = pred.clone().requires_grad_()
        value = module.hybrid_norm_loss(p, target, mask, norm, **options)
        answers.append((value.detach(), torch.autograd.grad(value.sum(), p)[0]))
    return answers


@pytest.mark.parametrize("bad", BAD)
@pytest.mark.parametrize("where", ["pred", "target"])
@pytest.mark.parametrize("variant", ["dadkit", "hdn"])
@pytest.mark.parametrize("reduction", ["image", "none", "mean"])
def test_not_finite_inside_poisons_its_own_image(fused, pair, bad, where, variant, reduction):
    pred, target = pair((2, 20, 30), "smooth")
    (pred if where == "pred" else target)[0, 3, 4] = bad
    (value, gradient), (expected, slope) = _both(fused, pred, target, variant=variant, reduction=reduction)
    torch.testing.assert_close(value, expected, equal_nan=True)
    assert gradient[0].isnan().all()
    torch.testing.assert_close(gradient[1], slope[1], rtol=1e-8, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("segments", [(1, 2, 4), (4,)])
@pytest.mark.parametrize("level", ["constant", "half constant"])
def test_not_finite_inside_poisons_pixels_that_lie_in_no_kept_segment_too(fused, pair, segments, level):
    pred, target = pair((2, 20, 30), "smooth")
    pred[0, 3, 4] = torch.nan
    target[0, : 20 if level == "constant" else 10] = 3.25
    mask = torch.ones(pred.shape, dtype=torch.bool)
    mask[0, :, :5] = False
    mask[0, 3, 4] = True
    (value, _), (expected, _) = _both(fused, pred, target, mask, segments=segments, reduction="none")
    torch.testing.assert_close(value, expected, equal_nan=True)
    assert torch.equal(value[0].isnan(), mask[0])


@pytest.mark.parametrize("bad", BAD)
def test_not_finite_outside_the_mask_never_leaks(fused, pair, bad):
    pred, target = pair((2, 20, 30), "smooth")
    mask = torch.rand(pred.shape, generator=torch.Generator().manual_seed(0)) < 0.7
    clean = _both(fused, pred, target, mask)[0]
    pred, target = torch.where(mask, pred, bad), torch.where(mask, target, bad)
    for reduction in ("mean", "none", "image", "pixel"):
        (value, gradient), (expected, slope) = _both(fused, pred, target, mask, reduction=reduction)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-12)
    dirty = _both(fused, pred, target, mask)[0]
    assert torch.equal(clean[0], dirty[0])
    assert torch.equal(clean[1], dirty[1])


@pytest.mark.parametrize("share", [0.0, 1e-9])
def test_no_valid_pixel_gives_zero(fused, pair, share):
    pred, target = pair((2, 9, 11), "noise")
    mask = torch.zeros(pred.shape, dtype=torch.bool)
    mask[1] = True
    for m in (mask, torch.zeros_like(mask)):
        (value, gradient), (expected, slope) = _both(fused, pred, target, m, trim=share)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, slope)
        assert not gradient[~m].any()


def test_constant_target_and_constant_prediction(fused, pair):
    pred, target = pair((1, 30, 40), "noise")
    flat = torch.full_like(pred, 3.25)
    assert _both(fused, pred, flat)[0][0] == 0
    value, gradient = _both(fused, flat, target)[0]
    torch.testing.assert_close(value, reference.hybrid_norm_loss(flat, target))
    assert not gradient.any()


@pytest.mark.parametrize("scale", [1e-42, 1e-38, 1e30])
def test_extreme_magnitudes(fused, pair, scale):
    pred, target = pair((1, 64, 80), "noise", torch.float32)
    (value, gradient), (expected, slope) = _both(fused, pred * scale, target * scale)
    torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(gradient.isfinite(), slope.isfinite())


def test_strided_and_expanded_inputs(fused, pair):
    pred, target = pair((2, 40, 60), "smooth")
    mask = torch.rand(1, 1, 60) < 0.8
    expected = fused.hybrid_norm_loss(pred.mT.contiguous(), target.mT.contiguous(), mask.expand(pred.shape).mT.contiguous())
    assert torch.equal(fused.hybrid_norm_loss(pred.mT, target.mT, mask.expand(pred.shape).mT), expected)
    one = target[:1].expand(2, -1, -1)
    assert torch.equal(fused.hybrid_norm_loss(pred, one), fused.hybrid_norm_loss(pred, one.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_dtypes_through_the_public_loss(pair, dtype):
    pred, target = pair((2, 32, 48), "smooth")
    pred, target = pred.to(dtype).requires_grad_(), target.to(dtype)
    value = hybrid_norm_loss(pred[:, None], target[:, None], backend="fused")
    expected = hybrid_norm_loss(pred[:, None], target[:, None], backend="reference")
    assert value.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-6)
    assert torch.autograd.grad(value, pred)[0].dtype == dtype


def test_autocast_changes_nothing(pair):
    pred, target = pair((1, 32, 48), "smooth", torch.float32)
    plain = hybrid_norm_loss(pred[:, None], target[:, None], backend="fused")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(hybrid_norm_loss(pred[:, None], target[:, None], backend="fused"), plain)


def test_wrong_options_are_refused_by_the_operators(fused, pair):
    pred, target = pair((1, 8, 8), "noise")
    with pytest.raises(RuntimeError, match="a level must be 1, 2, 4 or 8"):
        fused.hybrid_norm_loss(pred, target, options=NormOptions((3,)))
    with pytest.raises(RuntimeError, match="dtype"):
        fused.hybrid_norm_loss(pred, target.float())
    stats = fused.target_statistics(target, options=NormOptions((1, 2)))
    with pytest.raises(RuntimeError, match="target statistics"):
        fused.hybrid_norm_loss(pred, target, target_stats=stats)


def test_hdn_pixels_on_a_border_at_zero_lie_in_two_segments(fused):
    target = torch.linspace(-1, 1, 81, dtype=torch.float64).view(1, 9, 9)
    target[0, 4] = 0.0
    pred = torch.randn(1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for segments in ((2,), (1, 2, 4)):
        (value, gradient), (expected, slope) = _both(fused, pred, target, variant="hdn", segments=segments)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, slope, rtol=1e-8, atol=1e-12)
