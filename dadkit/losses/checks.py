"""The explicit, eager check of values, which the losses themselves never look at."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor

from dadkit.losses.inputs import patch_pair, whole_maps
from dadkit.ops.reference import median_mad
from dadkit.ops.reference.hybrid import is_flat

__all__ = ["check_inputs", "refuse_fine_boxes"]


def check_inputs(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    boxes: Tensor | None = None,
    pred_mask: Tensor | None = None,
) -> None:
    """Check the *values* that a loss is about to see, eagerly.

    The losses themselves never read a value back to the host, since on a GPU that would stop the queue; so a NaN inside a mask
    becomes a NaN loss. This check waits for the device and says what is wrong. Use it while debugging, or once per run.

    Args:
        pred: (B, H, W) or (B, 1, H, W).
        target: same shape; with ``boxes``, the patches (B, N, h, w).
        mask: bool of target's shape, True = valid; None = all valid.
        boxes: (B, N, 4) x0, y0, x1, y1 in pixels of ``pred``, as :func:`local_global_loss` takes them.
        pred_mask: bool of pred's shape, with ``boxes`` only.

    Raises:
        ValueError: wrong shapes or dtypes; a non-finite value inside its mask; boxes that are not finite or that minify more
            than twice.

    Warns:
        UserWarning: images that add nothing to a loss: no valid pixel, a constant target, a constant prediction.
    """
    if boxes is None:
        if pred_mask is not None:
            raise ValueError("pred_mask belongs to local-global losses: pass boxes too, or put it into mask")
        pred, target, mask = whole_maps(pred, target, mask)
        pred_mask = mask
    else:
        pred, target, boxes, mask, pred_mask = patch_pair(pred, target, boxes, mask, pred_mask)
        if not boxes.isfinite().all():
            raise ValueError(f"boxes hold {int((~boxes.isfinite()).sum())} non-finite coordinates")
        _refuse_fine_boxes(boxes, target)
        target, mask = target.flatten(0, 1), None if mask is None else mask.flatten(0, 1)
    for name, x, valid in (("pred", pred, pred_mask), ("target", target, mask)):
        _check_values(name, x.detach(), torch.ones_like(x, dtype=torch.bool) if valid is None else valid)


def refuse_fine_boxes(boxes: Tensor, target: Tensor) -> None:
    """Where looking at values is free (on the CPU, not while compiling): ValueError for boxes that minify more than twice."""
    if boxes.device.type == "cpu" and not torch.compiler.is_compiling():
        _refuse_fine_boxes(boxes, target)


def _refuse_fine_boxes(boxes: Tensor, target: Tensor) -> None:
    size = (target.shape[-2], target.shape[-1])
    bad = _too_fine(boxes, size).nonzero()
    if len(bad):
        image, patch = bad[0].tolist()
        x0, y0, x1, y1 = boxes[image, patch].tolist()
        raise ValueError(
            f"box {patch} of image {image} covers {x1 - x0:g} x {y1 - y0:g} pixels of pred, but its target has {size[1]} x "
            f"{size[0]}: more than 2x minification leaves pixels of pred without gradient. Resample the teacher's patch to at "
            "least half the box instead."
        )


def _too_fine(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """(B, N) bool: one step of the patch's grid of ``size`` (h, w) jumps over more than 2 pixels of the map.

    Bilinear sampling reads 2 x 2 pixels; from there on pixels of the student get no gradient at all.
    """
    extent = boxes[..., 2:] - boxes[..., :2]
    return (extent > 2 * extent.new_tensor([size[1], size[0]])).any(-1)


def _check_values(name: str, x: Tensor, valid: Tensor) -> None:
    bad = (valid & ~x.isfinite()).flatten(1).sum(1)
    if bad.any():
        images = bad.nonzero().flatten().tolist()
        raise ValueError(
            f"{name} has {int(bad.sum())} non-finite values inside its mask, in images {images}: build masks with isfinite()"
        )
    empty = ~valid.flatten(1).any(1)
    if empty.any():
        warnings.warn(f"{name}: images {empty.nonzero().flatten().tolist()} have no valid pixel and add nothing", stacklevel=3)
    _, mad = median_mad(x, valid)
    constant = is_flat(torch.where(valid, x, 0), mad) & ~empty
    if constant.any():
        warnings.warn(
            f"{name}: images {constant.nonzero().flatten().tolist()} are constant, so normalised losses give them no gradient",
            stacklevel=3,
        )
