"""The built-in normalizers: what they answer, and that their fast path is the same thing."""

from __future__ import annotations

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dadkit import losses
from dadkit.config import ConfigError, build
from dadkit.interfaces import Normalizer
from dadkit.normalizers import Global, Hybrid, Identity, Local, local_global, map_loss
from dadkit.testing.strategies import pairs

EXAMPLES = settings(deadline=None, max_examples=60, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
BUILT_IN = {
    "hybrid": Hybrid(),
    "hybrid-grid": Hybrid(partition="grid", segments=(2, 4), min_pixels=4),
    "hybrid-quantile": Hybrid(partition="quantile", segments=(8, 1), mad_floor=0.1),
    "hybrid-clipped": Hybrid(range_clip=(0.02, 0.98), detach_median=True),
    "global": Global(),
    "local": Local(min_pixels=2),
    "none": Identity(),
}


class OnlyCall:
    """A third party's normalizer, which offers nothing but what the interface demands."""

    def __init__(self, normalizer):
        self.normalizer = normalizer

    def __call__(self, pred, target, mask=None):
        return self.normalizer(pred, target, mask)


@pytest.mark.parametrize("name", BUILT_IN)
def test_is_a_normalizer(name):
    assert isinstance(BUILT_IN[name], Normalizer)
    assert type(BUILT_IN[name]).__name__ in repr(BUILT_IN[name])


@EXAMPLES
@given(pair=pairs(dtype=torch.float64), name=st.sampled_from(sorted(BUILT_IN)))
def test_weights_sum_to_1_where_a_pixel_takes_part_and_to_0_elsewhere(pair, name):
    pred_n, target_n, weight = BUILT_IN[name](pair.pred, pair.target, pair.mask)
    assert pred_n.shape == target_n.shape == weight.shape
    assert pred_n.shape[0] == len(pair.pred)
    assert pred_n.shape[2:] == pair.pred.shape[1:]
    total = weight.sum(1)
    takes_part = total > 0
    torch.testing.assert_close(total[takes_part], torch.ones_like(total[takes_part]))
    assert not (takes_part & ~pair.valid).any()
    outside = ~pair.valid[:, None].expand_as(weight)
    for x in (pred_n, target_n, weight):
        assert torch.count_nonzero(x[outside]) == 0


@EXAMPLES
@given(
    pair=pairs(dtype=torch.float64),
    name=st.sampled_from(sorted(BUILT_IN)),
    reduction=st.sampled_from(["mean", "pixel", "image", "none"]),
    trim=st.sampled_from([0.0, 0.1]),
)
def test_the_fast_path_is_the_loss_of_the_normalised_maps(pair, name, reduction, trim):
    answers = []
    for normalizer in (BUILT_IN[name], OnlyCall(BUILT_IN[name])):
        pred = pair.pred[:, None].clone().requires_grad_()
        mask = None if pair.mask is None else pair.mask[:, None]
        value = map_loss(normalizer, pred, pair.target[:, None], mask, reduction=reduction, trim=trim)
        (gradient,) = torch.autograd.grad(value.sum(), pred)
        answers.append((value.detach(), gradient))
    (fast, fast_gradient), (slow, slow_gradient) = answers
    torch.testing.assert_close(fast, slow, rtol=1e-9, atol=1e-9)
    if trim == 0:  # at equal losses, rounding decides which pixel is trimmed
        size = fast_gradient.abs().sum().item()
        torch.testing.assert_close(fast_gradient, slow_gradient, rtol=1e-7, atol=1e-9 * max(size, 1e-300))


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("reduction", ["mean", "pixel", "image", "none"])
def test_local_global_with_the_normalizers_own_settings(name, reduction):
    generator = torch.Generator().manual_seed(0)
    pred = torch.rand(2, 1, 20, 20, dtype=torch.float64, generator=generator)
    target = torch.rand(2, 3, 9, 8, dtype=torch.float64, generator=generator)
    boxes = torch.tensor([[[0.3, 1.0, 9.0, 8.0], [4.0, 4.0, 4.0, 9.0], [2.5, 3.0, 17.0, 19.5]]]).expand(2, 3, 4)
    mask = torch.rand(target.shape, generator=generator) < 0.9
    pred_mask = torch.rand(pred.shape, generator=generator) < 0.95
    options = {"pred_mask": pred_mask, "reduction": reduction}
    want = local_global(OnlyCall(BUILT_IN[name]), pred, target, boxes, mask, **options)
    torch.testing.assert_close(local_global(BUILT_IN[name], pred, target, boxes, mask, **options), want, rtol=1e-9, atol=1e-9)
    if name == "hybrid-grid":
        own = losses.local_global_loss(pred, target, boxes, mask, partition="grid", segments=(2, 4), min_pixels=4, **options)
        assert torch.equal(local_global(BUILT_IN[name], pred, target, boxes, mask, **options), own)


def test_they_are_the_public_losses():
    p, d = torch.rand(2, 2, 12, 11, generator=torch.Generator().manual_seed(0))
    assert torch.equal(map_loss(Hybrid(), p, d), losses.hybrid_norm_loss(p, d))
    assert torch.equal(map_loss(Hybrid(variant="hdn"), p, d, reduction="pixel"), losses.hybrid_norm_loss(p, d, variant="hdn"))
    assert torch.equal(map_loss(Global(), p, d, trim=0.1), losses.ssi_loss(p, d, trim=0.1))
    assert torch.equal(map_loss(Local(partition="quantile"), p, d), losses.local_norm_loss(p, d, partition="quantile"))
    assert torch.equal(map_loss(Identity(), p, d), losses.l1_loss(p, d))


def test_hdn_maps_give_the_published_loss():
    p, d = torch.rand(2, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    pred_n, target_n, weight = Hybrid(variant="hdn")(p, d)
    pixels = (weight * (pred_n - target_n).abs()).sum(1)
    torch.testing.assert_close(pixels, losses.hybrid_norm_loss(p, d, variant="hdn", reduction="none"), rtol=1e-12, atol=1e-12)
    assert weight.sum(1)[d == d.max()].item() == 0


def test_targets_get_no_gradient():
    for normalizer in BUILT_IN.values():
        pred, target = (torch.rand(1, 8, 8).requires_grad_() for _ in range(2))
        pred_n, target_n, weight = normalizer(pred, target)
        assert pred_n.requires_grad
        assert not target_n.requires_grad
        assert not weight.requires_grad


@pytest.mark.parametrize("normalizer", [Hybrid, Local])
def test_wrong_options_are_refused_at_construction(normalizer):
    for options in ({"mad_floor": 2.0}, {"partition": "cells"}, {"range_clip": (1.0, 0.0)}):
        with pytest.raises(ValueError, match=next(iter(options))):
            normalizer(**options)


@pytest.mark.parametrize(
    ("kind", "name"), [("normalizer", "hybrid"), ("normalizer", "local"), ("loss", "ssi"), ("loss", "hybrid-norm")]
)
def test_configurations_may_still_name_the_option_that_had_one_value(kind, name):
    assert repr(build(kind, name, {"detach_scale": False})) == repr(build(kind, name))
    with pytest.raises(ConfigError, match="detach_scale"):
        build(kind, name, {"detach_scale": True})
