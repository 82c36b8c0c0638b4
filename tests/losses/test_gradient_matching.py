"""Gradient matching against plain loops."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.losses import gradient_matching_loss
from dadkit.testing.strategies import pairs


def plain(p, d, valid, scales, normalised):
    """(sum of differences, number of pixels) of each scale of one image."""

    def norm(x):
        values = x[valid].sort().values
        t = values[(len(values) - 1) // 2]
        s = (x[valid] - t).abs().mean()
        flat = s <= 8 * torch.finfo(x.dtype).eps * x[valid].abs().max()
        return (torch.zeros_like(x) if flat else (x - t) / s), flat

    answer = []
    if not valid.any():
        return [(0.0, 0)] * scales
    if normalised:
        p, _ = norm(p)
        d, flat = norm(d)
        if flat:
            return [(0.0, 0)] * scales
    residual = p - d
    height, width = p.shape
    for k in range(scales):
        step, total, number = 2**k, 0.0, 0
        for y in range(0, height, step):
            for x in range(0, width, step):
                if not valid[y, x]:
                    continue
                number += 1
                if x + step < width and valid[y, x + step]:
                    total += abs((residual[y, x + step] - residual[y, x]).item())
                if y + step < height and valid[y + step, x]:
                    total += abs((residual[y + step, x] - residual[y, x]).item())
        answer.append((total, number))
    return answer


@settings(settings.get_profile("losses"), max_examples=60)
@given(pair=pairs(dtype=torch.float64, max_side=14, max_batch=2), scales=st.integers(1, 5), normalised=st.booleans())
def test_equals_plain_loops(pair, scales, normalised):
    found = [plain(p, d, m, scales, normalised) for p, d, m in zip(pair.pred, pair.target, pair.valid, strict=True)]
    images = [sum(total / max(number, 1) for total, number in image) for image in found]
    options = {"scales": scales, "normalize": normalised}
    got = gradient_matching_loss(pair.pred, pair.target, pair.mask, reduction="image", **options)
    assert got.tolist() == pytest.approx(images, rel=1e-10, abs=1e-12)
    pooled = sum(sum(i[k][0] for i in found) / max(sum(i[k][1] for i in found), 1) for k in range(scales))
    assert gradient_matching_loss(pair.pred, pair.target, pair.mask, reduction="pixel", **options).item() == pytest.approx(
        pooled, rel=1e-10, abs=1e-12
    )


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("channel", [False, True])
def test_an_edge_counts_alike_in_both_directions_and_with_a_channel(axis, channel):
    """Published copies lose the horizontal differences of (B, 1, H, W) maps."""
    p = torch.zeros(1, 8, 8)
    p.select(1 + axis, 4).fill_(0)
    p.narrow(1 + axis, 4, 4).fill_(1.0)
    d = torch.zeros(1, 8, 8)
    if channel:
        p, d = p[:, None], d[:, None]
    one_scale = gradient_matching_loss(p, d, scales=1, normalize=False)
    assert one_scale.item() == pytest.approx(8 / 64)
    assert gradient_matching_loss(p, d, normalize=False).item() == pytest.approx(8 / 64 + 4 / 16 + 2 / 4)


def test_subsampling_is_strided_and_not_averaged():
    p = torch.zeros(1, 4, 4)
    p[0, 1::2, :] = 100.0
    p[0, :, 1::2] = 100.0
    fine = gradient_matching_loss(p, torch.zeros_like(p), scales=1, normalize=False)
    both = gradient_matching_loss(p, torch.zeros_like(p), scales=2, normalize=False)
    assert both.item() == fine.item()


def test_a_shift_of_the_prediction_alone_costs_nothing():
    d = torch.rand(1, 16, 16, generator=torch.Generator().manual_seed(0))
    assert gradient_matching_loss(2 * d + 1, d).item() == pytest.approx(0, abs=1e-4)


def test_scales_must_be_positive():
    with pytest.raises(ValueError, match="scales must be at least 1, got 0"):
        gradient_matching_loss(torch.rand(1, 4, 4), torch.rand(1, 4, 4), scales=0)
