"""Hybrid normalisation against plain loops over its definition, value and closed-form gradient, in float64."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dadkit.losses import hybrid_norm_loss, normalize, target_statistics
from dadkit.testing.strategies import pairs

SEGMENTS = st.sampled_from([(1, 2, 4), (1,), (4,), (1, 2, 4, 8), (8, 2), (2,)])
PARTITIONS = st.sampled_from(["range", "quantile", "grid"])
CLIPS = st.sampled_from([(0.0, 1.0), (0.02, 0.98), (0.0, 0.9)])


@dataclass
class Answer:
    """What the plain loops found of one image."""

    loss: torch.Tensor
    counted: torch.Tensor
    gradient: torch.Tensor
    terms: torch.Tensor  # sizes of the gradient's terms, added up: what rounding errors are relative to
    near_kink: bool = False
    segments: list = field(default_factory=list)


def lower_median(values):
    return values.sort().values[(len(values) - 1) // 2]


def median_and_mad(values):
    median = lower_median(values)
    return median, (values - median).abs().mean()


def segment_masks(d, valid, segments, partition, clip):
    """(level, mask) of every segment of one image, straight from the definition."""
    finest = max(segments)
    height, width = d.shape
    values = d[valid].sort().values
    n = len(values)
    leaf = torch.zeros_like(d, dtype=torch.int64)
    if partition == "range":
        low, high = (values[(round(q * 1_000_000) * (n - 1)) // 1_000_000] for q in clip)
        for k in range(1, finest):
            leaf += d >= low + (high - low) * k / finest
    if partition == "quantile":
        for k in range(1, finest):
            leaf += d > values[k * (n - 1) // finest]
    for level in segments:
        if partition == "grid":
            for r in range(level):
                for c in range(level):
                    cell = torch.zeros_like(valid)
                    cell[r * height // level : (r + 1) * height // level, c * width // level : (c + 1) * width // level] = True
                    yield level, valid & cell
        else:
            for k in range(level):
                yield level, valid & (leaf // (finest // level) == k)


def plain_image(p, d, valid, *, segments, partition, clip, min_pixels, floor, detach_median):
    """Loss per pixel, and the gradient of its mean over the counted pixels by the closed form."""
    zeros = torch.zeros_like(p)
    if not valid.any():
        return Answer(zeros, torch.zeros_like(valid), zeros, zeros)
    t_gp, s_gp = median_and_mad(p[valid])
    _, s_gd = median_and_mad(d[valid])
    eps = 8 * torch.finfo(p.dtype).eps
    if s_gd <= eps * d[valid].abs().max().clamp(min=1e-30):
        return Answer(zeros, torch.zeros_like(valid), zeros, zeros)
    flat_pred = bool(s_gp <= eps * p[valid].abs().max().clamp(min=1e-30))
    answer = Answer(zeros.clone(), torch.zeros_like(valid), zeros.clone(), zeros.clone())
    number = zeros.clone()
    for level, mask in segment_masks(d, valid, segments, partition, clip):
        n = int(mask.sum())
        if n == 0:
            continue
        t_d, s_d = median_and_mad(d[mask])
        if level > 1 and (n < min_pixels or s_d < floor * s_gd):
            continue
        t_p, s_p = median_and_mad(p[mask])
        floored = bool(s_p < floor * s_gp)
        scale = floor * s_gp if floored else s_p
        r = zeros if flat_pred else (p - t_p) / scale
        e = r - (d - t_d) / s_d
        answer.loss += torch.where(mask, e.abs(), 0)
        number += mask
        answer.segments.append((mask, n, t_p, scale, floored, e))
        # Where both maps are at their medians e is 0 in any arithmetic; elsewhere an e of 0 has the sign of a rounding error.
        answer.near_kink |= bool(((e.abs() < 1e-9) & mask & ((p != t_p) | (d != t_d))).any())
        answer.near_kink |= level > 1 and bool((s_p / (floor * s_gp) - 1).abs() < 1e-9)
    answer.loss /= number.clamp(min=1)
    answer.counted = number > 0
    if flat_pred:
        return answer
    weight = 1 / (number.clamp(min=1) * answer.counted.sum())
    on_global = 0.0

    def add(term):
        answer.gradient += term
        answer.terms += term.abs()

    for mask, n, t, scale, floored, e in answer.segments:
        sigma = torch.where(mask, e.sign() * weight, 0)
        sign = torch.where(mask, (p - t).sign(), 0)
        ties = mask & (p == t)
        share = torch.zeros_like(p) if detach_median else ties.to(p.dtype) / ties.sum()
        pull = (sigma * (p - t)).sum()
        add(sigma / scale)
        add(-share * sigma.sum() / scale)
        if floored:
            on_global += floor * pull / scale**2
        else:
            add(-pull / (scale**2 * n) * sign)
            add(pull / (scale**2 * n) * share * sign.sum())
    sign = torch.where(valid, (p - t_gp).sign(), 0)
    ties = valid & (p == t_gp)
    share = torch.zeros_like(p) if detach_median else ties.to(p.dtype) / ties.sum()
    add(-on_global * (sign - share * sign.sum()) / valid.sum())
    return answer


@settings(settings.get_profile("losses"), max_examples=250)
@given(
    pair=pairs(dtype=torch.float64, max_side=20),
    segments=SEGMENTS,
    partition=PARTITIONS,
    clip=CLIPS,
    min_pixels=st.sampled_from([1, 4, 16]),
    floor=st.sampled_from([0.01, 0.3]),
    detach_median=st.booleans(),
)
def test_value_and_gradient_equal_plain_loops(pair, segments, partition, clip, min_pixels, floor, detach_median):
    options = {"segments": segments, "partition": partition, "min_pixels": min_pixels, "detach_median": detach_median}
    answers = [
        plain_image(p, d, m, **options, clip=clip, floor=floor)
        for p, d, m in zip(pair.pred, pair.target, pair.valid, strict=True)
    ]
    pred = pair.pred.clone().requires_grad_()
    call = {**options, "mad_floor": floor, "range_clip": clip}
    loss = hybrid_norm_loss(pred, pair.target, pair.mask, **call, reduction="none")
    torch.testing.assert_close(loss.detach(), torch.stack([a.loss for a in answers]), rtol=1e-10, atol=1e-12)

    images = hybrid_norm_loss(pred, pair.target, pair.mask, **call, reduction="image")
    means = torch.stack([a.loss.sum() / a.counted.sum().clamp(min=1) for a in answers])
    torch.testing.assert_close(images.detach(), means, rtol=1e-10, atol=1e-12)
    pooled = hybrid_norm_loss(pred, pair.target, pair.mask, **call, reduction="pixel")
    counted = sum(int(a.counted.sum()) for a in answers)
    assert pooled.item() == pytest.approx(sum(a.loss.sum().item() for a in answers) / max(counted, 1), rel=1e-10, abs=1e-12)
    mean = hybrid_norm_loss(pred, pair.target, pair.mask, **call)
    assert mean.item() == pytest.approx(means.mean().item(), rel=1e-10, abs=1e-12)

    assume(not any(a.near_kink for a in answers))
    (gradient,) = torch.autograd.grad(mean, pred)
    want = torch.stack([a.gradient for a in answers]) / len(answers)
    # The terms can cancel, to nothing where a segment has two pixels: what is left is a rounding error of the terms' size.
    size = (torch.stack([a.terms for a in answers]) / len(answers)).amax().item()
    torch.testing.assert_close(gradient, want, rtol=1e-9, atol=1e-12 * max(size, 1e-300))


def scene(seed, height=40, width=37):
    """A target with a sky of exact zeros and ties, and a prediction that saturates in the middle of the target's range."""
    generator = torch.Generator().manual_seed(seed)
    d = torch.rand(height, width, dtype=torch.float64, generator=generator)
    d[:10] = 0
    p = 3 * d + 0.3 * torch.rand(height, width, dtype=torch.float64, generator=generator)
    p = torch.where((d >= 0.5) & (d < 0.75), 2.0, p)  # a flat part of the prediction: its denominator is floored
    return torch.where((d >= 0.25) & (d < 0.5), (4 * p).round() / 4, p), d


@pytest.mark.parametrize("segments", [(1, 2, 4), (2, 4), (4,)])
def test_closed_form_with_ties_dropped_and_floored_segments(segments):
    p, d = scene(0)
    valid = torch.rand(p.shape, generator=torch.Generator().manual_seed(1)) < 0.9
    d[20:, :3] = 100.0  # near outliers: parts of the range stay empty
    p[20:, :3] = 50 + p[20:, :3]
    d[20, 4:7] = 60.0  # three pixels alone in their part
    answer = plain_image(
        p, d, valid, segments=segments, partition="quantile", clip=(0, 1), min_pixels=16, floor=0.01, detach_median=False
    )
    p.requires_grad_()
    loss = hybrid_norm_loss(p[None], d[None], valid[None], segments=segments, partition="quantile")
    (gradient,) = torch.autograd.grad(loss, p)
    torch.testing.assert_close(gradient, answer.gradient, rtol=1e-10, atol=1e-14)


def test_the_cases_of_the_closed_form_occur():
    p, d = scene(0)
    everything = torch.ones_like(d, dtype=torch.bool)
    answer = plain_image(
        p, d, everything, segments=(1, 2, 4), partition="range", clip=(0, 1), min_pixels=16, floor=0.01, detach_median=False
    )
    assert any(floored for _, _, _, _, floored, _ in answer.segments)
    assert any((mask & (p == t)).sum() > 1 for mask, _, t, *_ in answer.segments)
    p.requires_grad_()
    (gradient,) = torch.autograd.grad(hybrid_norm_loss(p[None], d[None]), p)
    torch.testing.assert_close(gradient, answer.gradient, rtol=1e-10, atol=1e-14)


def test_a_flat_sky_is_dropped_and_does_not_blow_up_noise():
    generator = torch.Generator().manual_seed(0)
    d = torch.cat([torch.zeros(40, 40), 0.5 + 0.5 * torch.rand(40, 40, generator=generator)])[None]
    p = (2 * d + 1e-4 * torch.randn(d.shape, generator=generator)).requires_grad_()
    pixels = hybrid_norm_loss(p, d, segments=(4,), reduction="none")
    assert torch.count_nonzero(pixels[:, :40]) == 0, "the sky is in no kept segment"
    assert hybrid_norm_loss(p, d, segments=(4,)) < 1e-2
    (gradient,) = torch.autograd.grad(hybrid_norm_loss(p, d, segments=(4,)), p)
    assert torch.count_nonzero(gradient[:, :40]) == 0


def test_pixels_in_no_kept_segment_leave_the_mean():
    d = torch.cat([torch.zeros(100), torch.linspace(0.9, 1, 100)]).view(1, 10, 20).double()
    p = torch.randn(d.shape, generator=torch.Generator().manual_seed(0)).double()
    pixels = hybrid_norm_loss(p, d, segments=(4,), reduction="none")
    assert hybrid_norm_loss(p, d, segments=(4,)).item() == pytest.approx(pixels[pixels > 0].mean().item())


def test_min_pixels_reads_the_count_of_valid_pixels():
    d = torch.cat([torch.linspace(0, 0.1, 50), torch.linspace(0.9, 1, 15)]).view(1, 5, 13)
    p = d + 0.01 * torch.randn(d.shape, generator=torch.Generator().manual_seed(0))
    few = hybrid_norm_loss(p, d, segments=(4,), min_pixels=16, reduction="none")
    enough = hybrid_norm_loss(p, d, segments=(4,), min_pixels=15, reduction="none")
    top = d > 0.5
    assert torch.count_nonzero(few[top]) == 0
    assert torch.count_nonzero(enough[top]) > 10


def test_range_clip_keeps_an_outlier_from_making_hybrid_global():
    generator = torch.Generator().manual_seed(0)
    d = torch.rand(1, 50, 50, generator=generator)
    d[0, 0, 0] = 20.0
    p = d.square() + 0.1 * torch.randn(d.shape, generator=generator)
    p[0, 0, 0] = 1.0
    plain = hybrid_norm_loss(p, d, segments=(4,), reduction="none")
    whole = hybrid_norm_loss(p, d, segments=(1,), reduction="none")
    clipped = hybrid_norm_loss(p, d, segments=(4,), range_clip=(0.0, 0.99), reduction="none")
    body = d < 20
    assert (plain - whole)[body].abs().mean() < 0.05, "all but the outlier lie in one part"
    assert (clipped - whole)[body].abs().mean() > 0.1


def test_the_median_is_the_lower_one_and_the_deviation_is_about_it():
    x = torch.tensor([[[4.0, 1.0, 2.0, 9.0]]])
    n = normalize(x)
    torch.testing.assert_close(n, ((x - 2.0) / (10 / 4))[:, None])


@settings(settings.get_profile("losses"), max_examples=60)
@given(pair=pairs(dtype=torch.float64), segments=SEGMENTS, partition=PARTITIONS, variant=st.sampled_from(["dadkit", "hdn"]))
def test_cached_statistics_change_nothing(pair, segments, partition, variant):
    if variant == "hdn" and partition == "grid":
        partition = "range"
    options = {"segments": segments, "partition": partition, "variant": variant}
    stats = target_statistics(pair.target, pair.mask, **options)
    pred = pair.pred.clone().requires_grad_()
    fresh = hybrid_norm_loss(pred, pair.target, pair.mask, **options, reduction="none")
    cached = hybrid_norm_loss(pred, pair.target, pair.mask, **options, reduction="none", target_stats=stats)
    assert torch.equal(fresh, cached)
    last = type(stats)(*(field[-1:] for field in stats))
    alone = hybrid_norm_loss(
        pred[-1:], pair.target[-1:], None if pair.mask is None else pair.mask[-1:], **options, target_stats=last
    )
    torch.testing.assert_close(alone, hybrid_norm_loss(pred[-1:], pair.target[-1:], pair.valid[-1:], **options))


def test_statistics_hold_what_they_say():
    d = torch.tensor([[[0.0, 1.0, 2.0, 3.0, 10.0]]])
    stats = target_statistics(d, segments=(1, 2))
    torch.testing.assert_close(stats.edges, torch.tensor([[0.0, 5.0, 10.0]]))
    assert stats.count.tolist() == [[5, 4, 1]]
    assert stats.median.tolist() == [[2.0, 1.0, 10.0]]
    torch.testing.assert_close(stats.mad, torch.tensor([[12 / 5, 1.0, 0.0]]))
    assert stats.global_mad.item() == pytest.approx(12 / 5)
    assert not stats.flat.item()
    assert math.isclose(hybrid_norm_loss(d, d, segments=(1, 2), target_stats=stats).item(), 0.0)
