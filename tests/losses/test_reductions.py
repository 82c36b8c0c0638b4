"""Reductions and trim."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.losses import gradient_matching_loss, hybrid_norm_loss, l1_loss, ssi_loss
from dadkit.ops.reference.order import share_of
from dadkit.testing.strategies import pairs


@settings(settings.get_profile("losses"), max_examples=60)
@given(pair=pairs(dtype=torch.float64), loss=st.sampled_from([hybrid_norm_loss, ssi_loss, l1_loss, gradient_matching_loss]))
def test_reductions_agree_with_each_other(pair, loss):
    arguments = (pair.pred, pair.target, pair.mask)
    images = loss(*arguments, reduction="image")
    assert images.shape == (len(pair.pred),)
    torch.testing.assert_close(loss(*arguments), images.mean())
    torch.testing.assert_close(loss(*arguments, reduction="mean"), images.mean())
    if loss is gradient_matching_loss:
        pixels = loss(*arguments, reduction="none")
        means = pixels.sum((1, 2)) / pair.valid.sum((1, 2)).clamp(min=1)
        torch.testing.assert_close(means, images)


def by_hand(losses, trim):
    """Mean of the smallest losses that are kept."""
    kept = losses.sort().values[: len(losses) - int(trim * len(losses) + 1e-9)]
    return kept.mean().item()


@pytest.mark.parametrize("trim", [0.0, 0.1, 0.2, 0.5, 0.97])
@pytest.mark.parametrize("loss", [hybrid_norm_loss, ssi_loss, l1_loss])
def test_trim_drops_the_largest_losses_of_each_image(loss, trim):
    generator = torch.Generator().manual_seed(0)
    p, d = torch.rand(2, 3, 17, 19, dtype=torch.float64, generator=generator)
    mask = torch.rand(3, 17, 19, generator=generator) < 0.8
    mask[2] = False
    pixels = loss(p, d, mask, reduction="none")
    want = [by_hand(pixels[i][mask[i]], trim) for i in range(2)]
    images = loss(p, d, mask, trim=trim, reduction="image")
    assert images.tolist() == pytest.approx([*want, 0.0], rel=1e-12)
    kept = loss(p, d, mask, trim=trim, reduction="none")
    number = int(mask[0].sum())
    assert torch.count_nonzero(pixels[0]) - torch.count_nonzero(kept[0]) == int(trim * number + 1e-9)


def test_trimmed_pixels_get_no_gradient_of_their_own():
    p = torch.tensor([[[1.0, 2.0, 3.0, 10.0, 4.0]]], requires_grad=True)
    l1_loss(p, torch.zeros(1, 1, 5), trim=0.2).backward()
    assert p.grad.flatten().tolist() == [0.25, 0.25, 0.25, 0.0, 0.25]


def test_pixels_that_tie_at_the_limit_share_it():
    p = torch.tensor([[[1.0, 5.0, 5.0, 5.0]]], requires_grad=True)
    loss = l1_loss(p, torch.zeros(1, 1, 4), trim=0.25)
    loss.backward()
    assert loss.item() == pytest.approx(11 / 3)
    torch.testing.assert_close(p.grad.flatten(), torch.tensor([1.0, 2 / 3, 2 / 3, 2 / 3]) / 3)


@pytest.mark.parametrize("share", ["0.1", "0.29", "0.52", "0.53", "0.98", "0.999999"])
def test_shares_are_counted_in_exact_arithmetic(share):
    """0.29 * 100 is 28.999… in float64, 0.53 * 100 is 52.999… in float32: a pixel or a quantile too few would be taken."""
    count = torch.arange(3000)
    want = [math.floor(Fraction(share) * n) for n in count.tolist()]
    assert share_of(count, float(share)).tolist() == want
