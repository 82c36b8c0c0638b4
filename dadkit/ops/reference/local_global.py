"""The teacher's patches against the same places of the student's one map."""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.ops.reference.normalization import pixel_loss
from dadkit.ops.reference.options import DEFAULT, NormOptions, Reduction, TargetStats
from dadkit.ops.reference.reduction import average, image_sums, over_images

__all__ = ["all_touched", "cut_patches", "legal_boxes", "local_global_loss", "reduce_patches", "sample_boxes"]


def local_global_loss(
    pred: Tensor,
    target: Tensor,
    boxes: Tensor,
    mask: Tensor | None = None,
    options: NormOptions = DEFAULT,
    *,
    pred_mask: Tensor | None = None,
    trim: float = 0.0,
    reduction: Reduction = "mean",
    target_stats: TargetStats | None = None,
) -> Tensor:
    """Returns the hybrid-normalised loss on each patch; gradient to ``pred`` only.

    Args:
        pred: (B, H, W).
        target: (B, N, h, w).
        boxes: (B, N, 4) x0, y0, x1, y1 in pixels of ``pred``.
        mask: bool (B, N, h, w) or None.
        pred_mask: bool (B, H, W) or None.
        options, trim: as for one map, here per patch.
        reduction: ``mean``: patches averaged per image, images over the batch; ``pixel``: all pixels pooled; ``image``: (B,);
            ``none``: (B, N, h, w).
        target_stats: statistics of the B * N patches.
    """
    crops, valid, present = cut_patches(pred, boxes, target.shape, mask, pred_mask)
    loss, counted, poison = pixel_loss(crops, target.flatten(0, 1), valid, options, target_stats)
    return reduce_patches(loss, counted, poison, present, reduction=reduction, trim=trim)


def cut_patches(
    pred: Tensor, boxes: Tensor, shape: torch.Size, mask: Tensor | None, pred_mask: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns the student's map at the patches' grids, where it is valid, and which boxes have an area.

    Args:
        pred: (B, H, W).
        boxes: (B, N, 4).
        shape: (B, N, h, w) of the patches.
        mask: bool (B, N, h, w) or None.
        pred_mask: bool (B, H, W) or None.

    Returns:
        crops (B * N, h, w), valid (B * N, h, w) bool, present (B, N) bool. Nothing is valid in a box without area.
    """
    size = (shape[2], shape[3])
    present, boxes = legal_boxes(boxes)
    boxes = boxes.to(pred.dtype)
    valid = present[..., None, None].expand(shape)
    if mask is not None:
        valid = valid & mask
    if pred_mask is not None:
        pred = torch.where(pred_mask, pred, 0)
        valid = valid & all_touched(pred_mask, boxes, size)
    return sample_boxes(pred, boxes, size).flatten(0, 1), valid.flatten(0, 1), present


def legal_boxes(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Returns which boxes (B, N, 4) have an area, (B, N) bool, and the boxes with those that have none replaced by a
    legal one.
    """
    present = (boxes[..., 2] > boxes[..., 0]) & (boxes[..., 3] > boxes[..., 1])
    unit = torch.arange(4, device=boxes.device) >= 2  # 0, 0, 1, 1, made without a copy from the host
    return present, torch.where(present[..., None], boxes, unit)


def reduce_patches(
    loss: Tensor, counted: Tensor, poison: Tensor, present: Tensor, *, reduction: Reduction, trim: float
) -> Tensor:
    """As ``reduction.reduce``, with patches (B * N, h, w) averaged per image over those that are ``present`` (B, N)."""
    total, number, kept = image_sums(loss, counted, trim)
    if reduction == "none":
        pixels = torch.where(counted, kept * poison[:, None, None], 0)
        return pixels.view(*present.shape, *pixels.shape[1:])
    return reduce_patch_sums((total * poison).view(present.shape), number.view(present.shape), present, reduction)


def reduce_patch_sums(total: Tensor, number: Tensor, present: Tensor, reduction: Reduction) -> Tensor:
    """As ``reduction.reduce_sums``, of patches (B, N)."""
    if reduction == "pixel":
        return average(total.sum(), number.sum())
    return over_images(average(average(total, number).sum(1), present.sum(1)), reduction)


def sample_boxes(x: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Sample each box on a grid of ``size``, bilinearly with half-pixel centres, clamped to the map (not to the box).

    Grid column j is at x0 + (j + 0.5) (x1 - x0) / w - 0.5 in pixels, rows alike. A box at integer borders with w = x1 - x0 is
    the crop itself, bit for bit.

    Args:
        x: (B, H, W) map; gets the gradient.
        boxes: (B, N, 4) x0, y0, x1, y1, finite, same dtype as ``x``.
        size: (h, w) of the grid.

    Returns:
        (B, N, h, w)
    """
    batch, height, width = x.shape
    count = boxes.shape[1]
    (top, bottom, down), (left, right, along) = _touched(boxes, size, (height, width))
    lines = x.reshape(batch * height, width)
    down = down[..., None]
    strips = _lines(lines, top, height) * (1 - down) + _lines(lines, bottom, height) * down  # (B, N, h, W)
    shape = (batch, count, *size)
    along = along[:, :, None, :]
    return (
        strips.gather(3, left[:, :, None].expand(shape)) * (1 - along)
        + strips.gather(3, right[:, :, None].expand(shape)) * along
    )


def all_touched(mask: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N, h, w) bool: every pixel that a sample reads with a weight above 0 is valid."""
    batch, height, width = mask.shape
    (top, bottom, _), (left, right, _) = _touched(boxes, size, (height, width))
    lines = mask.reshape(batch * height, width)
    strips = _lines(lines, top, height) & _lines(lines, bottom, height)
    shape = (batch, boxes.shape[1], *size)
    return strips.gather(3, left[:, :, None].expand(shape)) & strips.gather(3, right[:, :, None].expand(shape))


def _touched(boxes: Tensor, size: tuple[int, int], map_size: tuple[int, int]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """For y and for x: the two pixels read, (B, N, grid) int64 each, and the second one's weight in [0, 1)."""
    answer = []
    for axis in (0, 1):
        low, high = boxes[..., 1 - axis, None], boxes[..., 3 - axis, None]
        grid, side = size[axis], map_size[axis]
        centres = torch.arange(grid, device=boxes.device, dtype=boxes.dtype) + 0.5
        position = (low + centres * (high - low) / grid - 0.5).clamp(0, side - 1)
        first = position.floor()
        weight = position - first
        second = first + (weight > 0)  # a sample on a pixel's centre reads that pixel alone
        answer.append((first.long(), second.long(), weight))
    return answer


def _lines(lines: Tensor, index: Tensor, height: int) -> Tensor:
    """Rows ``index`` (B, N, h) of B maps stored as (B * H, W) lines: (B, N, h, W)."""
    offset = torch.arange(index.shape[0], device=index.device)[:, None, None] * height
    return lines.index_select(0, (index + offset).flatten()).view(*index.shape, lines.shape[1])
