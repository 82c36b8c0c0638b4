"""What the docstrings claim of the losses on one pair of maps, and nothing more."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.losses import gradient_matching_loss, hybrid_norm_loss, l1_loss, local_norm_loss, median_mad, normalize, ssi_loss
from dadkit.testing.strategies import KINDS, depth_maps, pairs

EXAMPLES = settings(settings.get_profile("losses"), max_examples=80)
LOSSES = {
    "hybrid": hybrid_norm_loss,
    "quantile": lambda *a, **k: hybrid_norm_loss(*a, partition="quantile", **k),
    "grid": lambda *a, **k: hybrid_norm_loss(*a, partition="grid", **k),
    "clipped": lambda *a, **k: hybrid_norm_loss(*a, range_clip=(0.02, 0.95), **k),
    "trimmed": lambda *a, **k: hybrid_norm_loss(*a, trim=0.1, **k),
    "eight": lambda *a, **k: hybrid_norm_loss(*a, segments=(8, 2), **k),
    "ssi": ssi_loss,
    "local": local_norm_loss,
    "gradient": gradient_matching_loss,
}
ANY_LOSS = st.sampled_from(sorted(LOSSES))
NORMALISED = pairs(dtype=torch.float64, kinds=[kind for kind in KINDS if kind != "outlier"])


def gradient_of(loss, pair):
    pred = pair.pred.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(pred, pair.target, pair.mask, reduction="image").sum(), pred)
    return gradient


@EXAMPLES
@given(pair=NORMALISED, name=ANY_LOSS, scale=st.sampled_from([1e-3, 0.7, 42.0, 1e4]), shift=st.sampled_from([-30.0, 0.1, 8.0]))
def test_invariant_to_scale_and_shift_of_the_prediction(pair, name, scale, shift):
    loss = LOSSES[name]
    moved = scale * (pair.pred + shift)
    got = loss(moved, pair.target, pair.mask, reduction="image")
    torch.testing.assert_close(got, loss(pair.pred, pair.target, pair.mask, reduction="image"), rtol=1e-7, atol=1e-7)


@EXAMPLES
@given(pair=pairs(dtype=torch.float64), name=ANY_LOSS)
def test_the_gradient_is_orthogonal_to_ones_and_to_the_prediction(pair, name):
    gradient = gradient_of(LOSSES[name], pair)
    size = gradient.abs().sum((1, 2))
    torch.testing.assert_close(gradient.sum((1, 2)) / size.clamp(min=1e-300), torch.zeros_like(size), rtol=0, atol=1e-9)
    along = (gradient * pair.pred).sum((1, 2))
    length = (gradient * pair.pred).abs().sum((1, 2)).clamp(min=1e-300)
    torch.testing.assert_close(along / length, torch.zeros_like(along), rtol=0, atol=1e-9)


def test_detach_median_gives_up_the_first_orthogonality():
    p = torch.rand(1, 20, 21, dtype=torch.float64, requires_grad=True, generator=torch.Generator().manual_seed(0))
    d = torch.rand(1, 20, 21, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    (whole,) = torch.autograd.grad(hybrid_norm_loss(p, d), p)
    (cut,) = torch.autograd.grad(hybrid_norm_loss(p, d, detach_median=True), p)
    assert whole.sum().abs() < 1e-12
    assert cut.sum().abs() > 1e-3
    assert cut.abs().max() < 0.5 * whole.abs().max(), "the spike at the median pixel is gone"


@EXAMPLES
@given(pair=pairs(dtype=torch.float32), name=ANY_LOSS, power=st.sampled_from([-7, 1, 10]))
def test_power_of_two_scales_of_the_target_change_no_bit(pair, name, power):
    loss = LOSSES[name]
    want = loss(pair.pred, pair.target, pair.mask)
    assert torch.equal(loss(pair.pred, pair.target * 2.0**power, pair.mask), want)


@EXAMPLES
@given(
    values=st.lists(st.integers(0, 63), min_size=20, max_size=150),
    scale=st.sampled_from([0.37, 3.0, 1e3]),
    shift=st.sampled_from([-5.0, 0.1]),
    name=st.sampled_from(["hybrid", "ssi", "local", "quantile", "grid", "gradient"]),
)
def test_invariant_to_scale_and_shift_of_a_target_off_the_segment_edges(values, scale, shift, name):
    d = torch.tensor([0.0, 64.0] + [v + 0.5 for v in values], dtype=torch.float64)[None, None]
    p = torch.randn(d.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(values)))
    loss = LOSSES[name]
    torch.testing.assert_close(loss(p, scale * d + shift), loss(p, d), rtol=1e-9, atol=1e-9)


@EXAMPLES
@given(pair=pairs(dtype=torch.float64), name=ANY_LOSS)
def test_images_of_a_batch_do_not_meet(pair, name):
    loss = LOSSES[name]
    together = loss(pair.pred, pair.target, pair.mask, reduction="image")
    gradient = gradient_of(loss, pair)
    for i in range(len(together)):
        one = slice(i, i + 1)
        pred = pair.pred[one].clone().requires_grad_()
        alone = loss(pred, pair.target[one], pair.valid[one], reduction="image")
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-10)
        (own,) = torch.autograd.grad(alone.sum(), pred)
        torch.testing.assert_close(own, gradient[one], rtol=1e-8, atol=1e-10 * max(own.abs().max().item(), 1e-300))


@EXAMPLES
@given(
    pair=pairs(dtype=torch.float64),
    name=st.sampled_from(["hybrid", "quantile", "clipped", "trimmed", "ssi", "local"]),
    seed=st.integers(0, 99),
)
def test_the_order_of_the_pixels_does_not_matter(pair, name, seed):
    loss = LOSSES[name]
    order = torch.randperm(pair.target[0].numel(), generator=torch.Generator().manual_seed(seed))

    def shuffled(x):
        return x.flatten(1)[:, order].view(x.shape)

    moved = type(pair)(shuffled(pair.pred), shuffled(pair.target), shuffled(pair.valid))
    want = loss(pair.pred, pair.target, pair.mask, reduction="image")
    torch.testing.assert_close(loss(moved.pred, moved.target, moved.mask, reduction="image"), want, rtol=1e-10, atol=1e-10)


def test_tied_pixels_share_the_medians_gradient_whatever_their_order():
    p = torch.tensor([[[2.0, 0.0, 2.0, 5.0, 2.0, 1.0, 9.0]]], dtype=torch.float64, requires_grad=True)
    median, mad = median_mad(p)
    (gradient,) = torch.autograd.grad(median.sum(), p, retain_graph=True)
    assert gradient.flatten().tolist() == [1 / 3, 0, 1 / 3, 0, 1 / 3, 0, 0]
    (gradient,) = torch.autograd.grad(mad.sum(), p)
    k = (2 - 2) / 7  # two above, two below
    torch.testing.assert_close(gradient.flatten()[[0, 2, 4]], torch.full((3,), k, dtype=torch.float64))
    torch.testing.assert_close(gradient.flatten()[[1, 3, 5, 6]], torch.tensor([-1, 1, -1, 1], dtype=torch.float64) / 7)


@EXAMPLES
@given(
    pair=pairs(mask_kinds=("most", "half", "few", "empty")),
    name=ANY_LOSS,
    rubbish=st.sampled_from([torch.nan, torch.inf, -1e30, 0.0]),
)
def test_what_lies_outside_the_mask_changes_no_bit(pair, name, rubbish):
    loss = LOSSES[name]

    def answer(pred, target):
        pred = pred.clone().requires_grad_()
        value = loss(pred, target, pair.valid, reduction="none")
        (gradient,) = torch.autograd.grad(value.sum(), pred)
        return value.detach(), gradient

    want = answer(pair.pred, pair.target)
    got = answer(pair.pred.where(pair.valid, rubbish), pair.target.where(pair.valid, rubbish))
    for one, other in zip(got, want, strict=True):
        assert torch.equal(one, other)
    assert torch.count_nonzero(got[0].where(~pair.valid, 0)) == 0
    assert torch.count_nonzero(got[1].where(~pair.valid, 0)) == 0


@pytest.mark.parametrize("side", ["pred", "target"])
@pytest.mark.parametrize("name", [*LOSSES, "l1", "hdn"])
@settings(EXAMPLES, max_examples=8)
@given(target=depth_maps((3, 7, 6)), bad=st.sampled_from([torch.nan, torch.inf, -torch.inf]))
def test_a_bad_value_inside_the_mask_poisons_its_own_image_only(target, name, bad, side):
    loss = {**LOSSES, "l1": l1_loss, "hdn": lambda *a, **k: hybrid_norm_loss(*a, variant="hdn", **k)}[name]
    clean = torch.rand(3, 7, 6, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(clean, dtype=torch.bool)
    mask[1, 0] = False
    pred, poisoned = clean.clone(), target.clone()
    {"pred": pred, "target": poisoned}[side][1, 3, 2] = bad
    pred.requires_grad_()
    images = loss(pred, poisoned, mask, reduction="image")
    assert images.isnan().tolist() == [False, True, False]
    torch.testing.assert_close(images[::2], loss(clean, target, mask, reduction="image")[::2])
    pixels = loss(pred, poisoned, mask, reduction="none")
    assert torch.equal(pixels.isnan(), mask & torch.tensor([False, True, False])[:, None, None])
    for reduction in ("mean", "pixel"):
        value = loss(pred, poisoned, mask, reduction=reduction)
        assert value.isnan()
        (gradient,) = torch.autograd.grad(value, pred)
        assert gradient[1, 1:].isnan().all()
        assert gradient[1, 0].eq(0).all(), "outside the mask"
        assert gradient[::2].isfinite().all()


@EXAMPLES
@given(pair=pairs(dtype=torch.float64), partition=st.sampled_from(["range", "quantile", "grid"]))
def test_hybrid_holds_the_global_and_the_local_loss(pair, partition):
    arguments = (pair.pred, pair.target, pair.mask)
    assert torch.equal(hybrid_norm_loss(*arguments, segments=(1,), partition=partition), ssi_loss(*arguments))
    local = hybrid_norm_loss(*arguments, segments=(4,), partition=partition)
    assert torch.equal(local, local_norm_loss(*arguments, partition=partition))


@EXAMPLES
@given(pair=pairs(dtype=torch.float64))
def test_levels_nest(rounding, pair):
    """A level normalises alike whatever finer levels stand beside it."""
    fine = normalize(pair.pred, pair.mask, reference=pair.target, segments=(1, 2, 4, 8))
    for index, level in enumerate((1, 2, 4)):
        alone = normalize(pair.pred, pair.mask, reference=pair.target, segments=(level,))
        torch.testing.assert_close(alone[:, 0], fine[:, index], rtol=rounding, atol=rounding)


@EXAMPLES
@given(pair=NORMALISED, partition=st.sampled_from(["range", "quantile", "grid"]), scale=st.sampled_from([1e-3, 42.0]))
def test_normalised_maps_ignore_scale_and_shift(pair, partition, scale):
    options = {"reference": pair.target, "segments": (1, 2, 4), "partition": partition}
    moved = normalize(scale * (pair.pred + 3), pair.mask, **options)
    torch.testing.assert_close(moved, normalize(pair.pred, pair.mask, **options), rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("partition", ["range", "quantile", "grid"])
def test_normalised_maps_have_median_0_and_deviation_1_in_every_kept_segment(partition):
    d = torch.rand(1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    n = normalize(d, segments=(1,), partition=partition)
    median, mad = median_mad(n)
    assert median.item() == 0
    assert mad.item() == pytest.approx(1)


def test_shapes_with_and_without_a_channel_give_the_same():
    p, d = torch.rand(2, 2, 1, 9, 8, generator=torch.Generator().manual_seed(0))
    mask = torch.rand(p.shape) < 0.8
    for loss in (*LOSSES.values(), l1_loss):
        assert torch.equal(loss(p, d, mask), loss(p[:, 0], d[:, 0], mask[:, 0]))
        assert loss(p, d, mask, reduction="none").shape == p.shape
        assert loss(p[:, 0], d[:, 0], mask[:, 0], reduction="none").shape == p[:, 0].shape
