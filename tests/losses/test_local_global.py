"""The local-global loss against loops over its sampling formula, and its cases."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.losses import check_inputs, hybrid_norm_loss, local_global_loss, target_statistics
from dadkit.ops.reference import sample_boxes


def plain_sample(image, box, size):
    """One box of one map (H, W), sample by sample; also the pixels that each sample reads."""
    height, width = image.shape
    x0, y0, x1, y1 = box.tolist()
    answer = torch.zeros(size, dtype=image.dtype)
    read = [[None] * size[1] for _ in range(size[0])]
    for i in range(size[0]):
        for j in range(size[1]):
            x = min(max(x0 + (j + 0.5) * (x1 - x0) / size[1] - 0.5, 0), width - 1)
            y = min(max(y0 + (i + 0.5) * (y1 - y0) / size[0] - 0.5, 0), height - 1)
            left, top = math.floor(x), math.floor(y)
            weights = {}
            for row, wy in ((top, 1 - (y - top)), (top + 1, y - top)):
                for column, wx in ((left, 1 - (x - left)), (left + 1, x - left)):
                    if wy * wx > 0:
                        weights[row, column] = wy * wx
            answer[i, j] = sum(w * image[place].item() for place, w in weights.items())
            read[i][j] = weights
    return answer, read


@st.composite
def cases(draw):
    """pred (B, H, W), patches (B, N, h, w), boxes, masks; boxes may stick out of the map, overlap, or have no area."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**16)))
    batch, patches = draw(st.integers(1, 2)), draw(st.integers(1, 3))
    height, width, h, w = (draw(st.integers(1, 9)) for _ in range(4))
    pred = torch.randn(batch, height, width, dtype=torch.float64, generator=generator)
    target = torch.rand(batch, patches, h, w, dtype=torch.float64, generator=generator)
    corners = torch.rand(batch, patches, 2, dtype=torch.float64, generator=generator) * torch.tensor([width, height]) - 0.7
    sides = torch.rand(batch, patches, 2, dtype=torch.float64, generator=generator) * 2 * torch.tensor([w, h])
    if draw(st.booleans()):
        corners, sides = corners.round(), sides.round()
    boxes = torch.cat([corners, corners + sides], -1)
    mask = torch.rand(target.shape, generator=generator) < 0.8 if draw(st.booleans()) else None
    pred_mask = torch.rand(pred.shape, generator=generator) < 0.8 if draw(st.booleans()) else None
    return pred, target, boxes, mask, pred_mask


@settings(settings.get_profile("losses"), max_examples=80)
@given(case=cases())
def test_value_and_gradient_equal_plain_loops(case):
    pred, target, boxes, mask, pred_mask = case
    batch, patches, h, w = target.shape
    valid = torch.ones_like(target, dtype=torch.bool) if mask is None else mask.clone()
    present = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    crops, reads = torch.zeros_like(target), {}
    for b in range(batch):
        for n in range(patches):
            crops[b, n], reads[b, n] = plain_sample(pred[b], boxes[b, n], (h, w))
            for i in range(h):
                for j in range(w):
                    if pred_mask is not None and not all(pred_mask[b][place] for place in reads[b, n][i][j]):
                        valid[b, n, i, j] = False
    valid &= present[..., None, None]
    sampled = sample_boxes(pred, boxes, (h, w))
    torch.testing.assert_close(sampled[present], crops[present], rtol=1e-12, atol=1e-12)

    options = {"min_pixels": 2}
    crops = sampled.detach().requires_grad_()  # checked above; the very same bits, so that both sides round alike at kinks
    images = hybrid_norm_loss(crops.flatten(0, 1), target.flatten(0, 1), valid.flatten(0, 1), reduction="image", **options)
    images = images.view(batch, patches)
    per_image = torch.stack([images[b][present[b]].mean() if present[b].any() else images[b].sum() * 0 for b in range(batch)])
    pred = pred.clone().requires_grad_()
    got = local_global_loss(pred, target, boxes, mask, pred_mask=pred_mask, reduction="image", **options)
    torch.testing.assert_close(got, per_image, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(
        local_global_loss(pred, target, boxes, mask, pred_mask=pred_mask, **options), per_image.mean(), rtol=1e-9, atol=1e-9
    )
    pooled = hybrid_norm_loss(crops.flatten(0, 1), target.flatten(0, 1), valid.flatten(0, 1), reduction="pixel", **options)
    torch.testing.assert_close(
        local_global_loss(pred, target, boxes, mask, pred_mask=pred_mask, reduction="pixel", **options),
        pooled,
        rtol=1e-9,
        atol=1e-9,
    )

    (on_crops,) = torch.autograd.grad(per_image.sum(), crops)
    want = torch.zeros_like(pred)
    for (b, n), read in reads.items():
        for i in range(h):
            for j in range(w):
                for place, weight in read[i][j].items():
                    want[b][place] = want[b][place].detach() + weight * on_crops[b, n, i, j]
    (gradient,) = torch.autograd.grad(got.sum(), pred)
    scale = on_crops.abs().sum().item()
    torch.testing.assert_close(gradient, want.detach(), rtol=1e-9, atol=1e-11 * max(scale, 1e-300))


def test_a_box_at_integer_borders_is_the_crop_bit_for_bit():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(1, 30, 40, generator=generator), torch.rand(1, 1, 20, 16, generator=generator)
    boxes = torch.tensor([[[7.0, 5.0, 23.0, 25.0]]])
    want = hybrid_norm_loss(pred[:, 5:25, 7:23], target[0])
    assert torch.equal(local_global_loss(pred, target, boxes), want)
    bad = pred.clone()
    bad[0, 4], bad[0, 25], bad[0, :, 6], bad[0, :, 23] = (torch.nan,) * 4
    assert torch.equal(local_global_loss(bad, target, boxes), want), "no neighbour of the crop is read"


def test_the_whole_map_is_a_box_too():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 2, 1, 14, 15, generator=generator)
    boxes = torch.tensor([[[0.0, 0.0, 15.0, 14.0]]]).expand(2, 1, 4)
    assert torch.equal(local_global_loss(pred, target, boxes), hybrid_norm_loss(pred, target))


def test_samples_are_clamped_to_the_map_and_not_to_the_box():
    ramp = torch.arange(10.0).expand(1, 3, 10)
    inner = sample_boxes(ramp, torch.tensor([[[3.0, 0.0, 5.0, 3.0]]]), (3, 8))
    assert inner[0, 0, 0].tolist() == pytest.approx([3 + (j + 0.5) / 4 - 0.5 for j in range(8)])
    assert inner[0, 0, 0, 0] < 3, "half a step left of the box's first pixel"
    outer = sample_boxes(ramp, torch.tensor([[[0.0, 0.0, 2.0, 3.0]]]), (3, 8))
    assert outer[0, 0, 0, :2].tolist() == [0, 0]


def test_boxes_without_area_leave_the_mean():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(1, 20, 20, generator=generator), torch.rand(1, 3, 8, 8, generator=generator)
    boxes = torch.tensor([[[1.0, 2.0, 11.0, 12.0], [5.0, 5.0, 5.0, 9.0], [5.0, 5.0, 9.0, 4.0]]])
    alone = local_global_loss(pred, target[:, :1], boxes[:, :1])
    for reduction in ("mean", "pixel"):
        torch.testing.assert_close(local_global_loss(pred, target, boxes, reduction=reduction), alone)
    pixels = local_global_loss(pred, target, boxes, reduction="none")
    assert torch.count_nonzero(pixels[:, 1:]) == 0
    nothing = pred.clone().requires_grad_()
    loss = local_global_loss(nothing, target[:, 1:], boxes[:, 1:])
    loss.backward()
    assert loss.item() == 0
    assert torch.count_nonzero(nothing.grad) == 0


def test_an_empty_patch_counts_as_0_and_no_patch_gives_0():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(1, 20, 20, generator=generator), torch.rand(1, 2, 8, 8, generator=generator)
    boxes = torch.tensor([[[1.0, 2.0, 11.0, 12.0], [5.0, 5.0, 15.0, 15.0]]])
    mask = torch.ones_like(target, dtype=torch.bool)
    mask[:, 1] = False
    torch.testing.assert_close(
        local_global_loss(pred, target, boxes, mask), local_global_loss(pred, target[:, :1], boxes[:, :1]) / 2
    )
    assert local_global_loss(pred, torch.rand(1, 0, 8, 8), torch.rand(1, 0, 4)).item() == 0


def test_the_order_of_the_patches_does_not_matter():
    generator = torch.Generator().manual_seed(0)
    pred = torch.rand(1, 20, 20, dtype=torch.float64, generator=generator)
    target = torch.rand(1, 3, 8, 8, dtype=torch.float64, generator=generator)
    boxes = torch.tensor([[[1.0, 2.0, 11.0, 12.0], [5.0, 5.0, 15.0, 15.0], [0.5, 3.0, 9.0, 8.0]]])
    order = [2, 0, 1]
    torch.testing.assert_close(
        local_global_loss(pred, target, boxes), local_global_loss(pred, target[:, order], boxes[:, order]), rtol=1e-12, atol=0
    )


def test_invariant_to_scale_and_shift_of_the_prediction_and_orthogonal():
    generator = torch.Generator().manual_seed(0)
    pred = torch.rand(2, 20, 20, dtype=torch.float64, generator=generator, requires_grad=True)
    target = torch.rand(2, 2, 16, 16, dtype=torch.float64, generator=generator)
    boxes = torch.tensor([[[1.3, 2.0, 11.6, 12.0], [5.0, 5.5, 15.0, 18.0]]]).expand(2, 2, 4)
    loss = local_global_loss(pred, target, boxes)
    torch.testing.assert_close(local_global_loss(40 * pred - 3, target, boxes), loss, rtol=1e-9, atol=0)
    (gradient,) = torch.autograd.grad(loss, pred)
    assert gradient.sum((1, 2)).abs().max() < 1e-13
    assert (gradient * pred).sum((1, 2)).abs().max() < 1e-13


def test_more_than_twofold_minification_is_refused():
    pred, target = torch.rand(1, 40, 40), torch.rand(1, 2, 10, 10)
    boxes = torch.tensor([[[0.0, 0.0, 20.0, 20.0], [0.0, 0.0, 10.0, 20.5]]])
    local_global_loss(pred, target[:, :1], boxes[:, :1])
    for check in (local_global_loss, lambda p, d, b: check_inputs(p, d, boxes=b)):
        with pytest.raises(ValueError, match=r"box 1 of image 0 covers 10 x 20\.5 pixels .* 10 x 10"):
            check(pred, target, boxes)


def test_every_pixel_under_a_box_at_twofold_minification_gets_gradient():
    pred = torch.rand(1, 20, 20, dtype=torch.float64, generator=torch.Generator().manual_seed(0), requires_grad=True)
    sample_boxes(pred, torch.tensor([[[0.0, 0.0, 20.0, 20.0]]], dtype=torch.float64), (10, 10)).sum().backward()
    assert (pred.grad > 0).all()


def test_a_bad_value_poisons_the_patches_that_read_it_only():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 20, 20, generator=generator), torch.rand(2, 2, 8, 8, generator=generator)
    boxes = torch.tensor([[[0.0, 0.0, 8.0, 8.0], [11.0, 11.0, 19.0, 19.0]]]).expand(2, 2, 4)
    pred[0, 2, 3] = torch.nan
    pred.requires_grad_()
    images = local_global_loss(pred, target, boxes, reduction="image")
    assert images.isnan().tolist() == [True, False]
    local_global_loss(pred, target, boxes).backward()
    assert pred.grad[0, :8, :8].isnan().all()
    assert pred.grad[0, 9:].isfinite().all()
    assert pred.grad[1].isfinite().all()
    hidden = torch.ones(2, 20, 20, dtype=torch.bool)
    hidden[0, 2, 3] = False
    assert local_global_loss(pred, target, boxes, pred_mask=hidden).isfinite()


def test_trim_and_cached_statistics():
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 20, 20, generator=generator), torch.rand(2, 3, 9, 8, generator=generator)
    boxes = torch.tensor([[[0.0, 0.0, 8.0, 8.0], [1.0, 1.5, 12.0, 13.0], [3.0, 4.0, 18.0, 19.0]]]).expand(2, 3, 4)
    stats = target_statistics(target.flatten(0, 1))
    assert torch.equal(local_global_loss(pred, target, boxes), local_global_loss(pred, target, boxes, target_stats=stats))
    pixels = local_global_loss(pred, target, boxes, reduction="none").flatten(2).sort().values
    want = pixels[..., : 72 - 7].mean()
    torch.testing.assert_close(local_global_loss(pred, target, boxes, trim=0.1), want)
