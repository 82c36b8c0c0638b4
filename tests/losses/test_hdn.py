"""``variant="hdn"`` against plain loops over the published definition, rtol 1e-12 in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dadkit.losses import hybrid_norm_loss, local_global_loss, normalize
from dadkit.testing.strategies import depth_maps, masks, pairs


def contexts(d, valid, levels, partition):
    """Bool masks of one image (numpy), finest level first."""
    answer = []
    values = d[valid]
    for parts in sorted(levels, reverse=True):
        for k in range(parts if partition != "grid" else parts * parts):
            if partition == "grid":
                size, row, column = d.shape[1], k // parts, k % parts
                cell = np.zeros(d.shape, bool)
                cell[
                    int(row / parts * size) : int((row + 1) / parts * size),
                    int(column / parts * size) : int((column + 1) / parts * size),
                ] = True
                answer.append(cell & valid)
            elif values.size == 0:
                answer.append(valid)
            elif partition == "range":
                low, high = values.min(), values.max()
                inside = (d >= low + (high - low) * k / parts) & (d < low + (high - low) * (k + 1) / parts + 1e-30)
                answer.append(inside & valid)
            else:
                low, high = (
                    torch.nanquantile(torch.from_numpy(values), q / parts).item() for q in (k, k + 1)
                )  # numpy's interpolation differs in the last bit
                answer.append((d >= low) & (d < high) & valid)
    return answer


def normalised(x, inside):
    """(x - t) / (s + 1e-6) over one context."""
    values = np.sort(x[inside])
    t = values[(len(values) - 1) // 2] if len(values) else 0.0
    s = np.abs(x[inside] - t).sum() / (len(values) + 1)
    return (x - t) / (s + 1e-6)


def published(pred, target, mask, levels, partition):
    """The pooled loss and the loss per pixel, by loops over images and contexts."""
    pixels = np.zeros(pred.shape)
    for b in range(len(pred)):
        p, d, valid = pred[b].numpy(), target[b].numpy(), mask[b].numpy()
        number = np.zeros(d.shape)
        for inside in contexts(d, valid, levels, partition):
            pixels[b][inside] += np.abs(normalised(p, inside) - normalised(d, inside))[inside]
            number[inside] += 1
        pixels[b][number > 0] /= number[number > 0]
    total = mask.sum().item()
    return (pixels.sum() / total if total else 0.0), torch.from_numpy(pixels)


@settings(settings.get_profile("losses"), max_examples=150)
@given(
    data=st.data(), partition=st.sampled_from(["range", "quantile", "grid"]), levels=st.sampled_from([(1, 2, 4), (1,), (4,)])
)
def test_equals_plain_loops_over_the_published_definition(rounding, data, partition, levels):
    if partition == "grid":
        side = data.draw(st.integers(1, 20))
        shape = (data.draw(st.integers(1, 3)), side, side)
        target = data.draw(depth_maps(shape, dtype=torch.float64))
        pred = data.draw(depth_maps(shape, dtype=torch.float64))
        mask = data.draw(masks(shape))
    else:
        pair = data.draw(pairs(dtype=torch.float64))
        pred, target, mask = pair.pred, pair.target, pair.valid
    want, pixels = published(pred, target, mask, levels, partition)
    options = {"segments": levels, "partition": partition, "variant": "hdn"}
    got = hybrid_norm_loss(pred, target, mask, **options)
    assert got.item() == pytest.approx(want, rel=max(1e-12, rounding), abs=max(1e-300, rounding))
    torch.testing.assert_close(
        hybrid_norm_loss(pred, target, mask, **options, reduction="none"),
        pixels,
        rtol=max(1e-11, rounding),
        atol=max(1e-12, rounding),
    )


def test_zeros_on_an_edge_at_zero_lie_in_two_segments():
    d = torch.linspace(-1, 1, 41, dtype=torch.float64).round(decimals=2).view(1, 1, 41)
    p = torch.randn(d.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(d, dtype=torch.bool)
    inside = contexts(d[0].numpy(), mask[0].numpy(), (2,), "range")
    assert sum(int(m[0, 20]) for m in inside) == 2
    want, pixels = published(p, d, mask, (1, 2, 4), "range")
    got = hybrid_norm_loss(p, d, mask, variant="hdn", reduction="none")
    torch.testing.assert_close(got, pixels, rtol=1e-12, atol=0)
    assert hybrid_norm_loss(p, d, mask, variant="hdn").item() == pytest.approx(want, rel=1e-12)


def test_the_largest_pixel_adds_nothing_and_still_counts():
    d = torch.rand(1, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = d + 1
    p[d == d.max()] += 1e3
    pixels = hybrid_norm_loss(p, d, variant="hdn", reduction="none")
    assert pixels[d == d.max()].item() == 0
    assert hybrid_norm_loss(p, d, variant="hdn").item() == pytest.approx(pixels.sum().item() / 81)


def test_an_all_invalid_batch_is_zero_where_the_original_gives_nan():
    x = torch.rand(2, 5, 5, requires_grad=True)
    loss = hybrid_norm_loss(x, torch.rand(2, 5, 5), torch.zeros(2, 5, 5, dtype=torch.bool), variant="hdn")
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(x.grad) == 0


def test_a_constant_target_adds_nothing_and_still_counts():
    d = torch.rand(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    p = torch.rand(2, 6, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    d[1] = 0.5
    alone = hybrid_norm_loss(p[:1], d[:1], variant="hdn")
    assert hybrid_norm_loss(p, d, variant="hdn").item() == pytest.approx(alone.item() / 2, rel=1e-12)


@settings(settings.get_profile("losses"), max_examples=40)
@given(
    pair=pairs(dtype=torch.float64, kinds=("smooth", "noise", "sky"), max_batch=2),
    partition=st.sampled_from(["range", "quantile"]),
)
def test_gradient_without_ties_equals_the_closed_form(pair, partition):
    for p in pair.pred:
        assume(p.unique().numel() == p.numel())
    pred = pair.pred.clone().requires_grad_()
    loss = hybrid_norm_loss(pred, pair.target, pair.mask, variant="hdn", partition=partition)
    (gradient,) = torch.autograd.grad(loss, pred)
    want = torch.zeros_like(gradient)
    total = max(int(pair.valid.sum()), 1)
    for b in range(len(want)):
        p, d, valid = pair.pred[b], pair.target[b], pair.valid[b]
        inside = [torch.from_numpy(m) for m in contexts(d.numpy(), valid.numpy(), (1, 2, 4), partition) if m.any()]
        number = sum(inside).clamp(min=1) if inside else 1
        for m in inside:
            n = int(m.sum())
            t = p[m].sort().values[(n - 1) // 2]
            s = (p[m] - t).abs().sum() / (n + 1) + 1e-6
            e = torch.from_numpy(normalised(p.numpy(), m.numpy()) - normalised(d.numpy(), m.numpy()))
            assume(not ((e.abs() < 1e-9) & m & (p != t)).any())
            sigma = torch.where(m, e.sign() / (number * total), 0)
            sign = torch.where(m, (p - t).sign(), 0)
            pull = (sigma * (p - t)).sum()
            at_median = (m & (p == t)).double()
            want[b] += sigma / s - pull * sign / (s**2 * (n + 1))
            want[b] += at_median * (-sigma.sum() / s + pull * sign.sum() / (s**2 * (n + 1)))
    torch.testing.assert_close(gradient, want, rtol=1e-9, atol=1e-11 * max(want.abs().max().item(), 1e-300))


def test_the_default_reduction_is_the_published_one():
    p, d = torch.rand(2, 2, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mask = torch.ones(2, 8, 8, dtype=torch.bool)
    mask[0, :6] = False
    default = hybrid_norm_loss(p, d, mask, variant="hdn")
    assert torch.equal(default, hybrid_norm_loss(p, d, mask, variant="hdn", reduction="pixel"))
    assert not torch.allclose(default, hybrid_norm_loss(p, d, mask, variant="hdn", reduction="mean"))
    patches = d[:, None]
    boxes = torch.tensor([[[0.0, 0.0, 8.0, 8.0]]]).expand(2, 1, 4)
    assert torch.equal(local_global_loss(p, patches, boxes, mask[:, None], variant="hdn"), default)


def test_normalised_maps_are_those_of_the_loss():
    p, d = torch.rand(2, 1, 12, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    maps = [normalize(x, reference=r, segments=(1, 2, 4), variant="hdn") for x, r in ((p, d), (d, None))]
    pixels = hybrid_norm_loss(p, d, variant="hdn", reduction="none")
    body = d < d.max()
    torch.testing.assert_close((maps[0] - maps[1]).abs().mean(1)[body], pixels[body])


@pytest.mark.parametrize("option", [{"min_pixels": 3}, {"mad_floor": 0.1}, {"range_clip": (0.1, 0.9)}])
def test_options_that_the_published_code_lacks_are_refused(option):
    x = torch.rand(1, 4, 4)
    with pytest.raises(ValueError, match="published code"):
        hybrid_norm_loss(x, x, variant="hdn", **option)


def test_grid_needs_square_maps():
    with pytest.raises(ValueError, match="square"):
        hybrid_norm_loss(torch.rand(1, 4, 6), torch.rand(1, 4, 6), variant="hdn", partition="grid")
