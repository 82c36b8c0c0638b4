"""What the losses accept: shapes, dtypes and options, checked before any work.

Values are looked at by :func:`check_inputs` alone, and, on the CPU, those of boxes.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from dadkit.ops.reference import NormOptions, Partition, Reduction, TargetStats, Variant, median_mad
from dadkit.ops.reference.hybrid import is_flat
from dadkit.ops.reference.options import LEVELS, segment_count

__all__ = [
    "check_inputs",
    "check_options",
    "check_reduction",
    "check_stats",
    "check_trim",
    "compute_dtype",
    "patch_pair",
    "refuse_fine_boxes",
    "single_map",
    "whole_maps",
]


def compute_dtype(*tensors: Tensor) -> torch.dtype:
    """float64 if any input is float64, else float32: half precision has too few digits for medians and sums."""
    return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32


def whole_maps(
    pred: Tensor, target: Tensor, mask: Tensor | None, *, half: bool = False
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Returns the pair as (B, H, W) in the dtype of the computation, or as it is if ``half``; ValueError if it is not one."""
    _check_map("pred", pred)
    _check_map("target", target)
    if pred.shape != target.shape:
        raise ValueError(f"pred and target must have one shape, got {tuple(pred.shape)} and {tuple(target.shape)}")
    _check_mask("mask", mask, target)
    _check_device(pred=pred, target=target, mask=mask)
    p, d = (_flat3(x) if half else _flat3(x).to(compute_dtype(pred, target)) for x in (pred, target))
    return p, d, None if mask is None else _flat3(mask)


def single_map(name: str, x: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Returns one map as (B, H, W) in the dtype of the computation; ValueError if it is not one."""
    _check_map(name, x)
    _check_mask("mask", mask, x)
    _check_device(**{name: x, "mask": mask})
    return _flat3(x).to(compute_dtype(x)), None if mask is None else _flat3(mask)


def patch_pair(
    pred: Tensor, target: Tensor, boxes: Tensor, mask: Tensor | None, pred_mask: Tensor | None, *, half: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor | None, Tensor | None]:
    """pred (B, H, W), target (B, N, h, w), boxes (B, N, 4), masks; ValueError if they do not fit together.

    The maps are in the dtype of the computation, or as they are if ``half``.
    """
    _check_map("pred", pred)
    _check_floating("target", target)
    if target.ndim != 4 or 0 in target.shape[2:]:
        raise ValueError(f"target must be patches (B, N, h, w), got {tuple(target.shape)}")
    if len(pred) != len(target):
        raise ValueError(f"pred and target must have one batch size, got {len(pred)} and {len(target)}")
    if boxes.shape != (*target.shape[:2], 4) or not boxes.is_floating_point():
        raise ValueError(
            f"boxes must be floating point of shape {(*target.shape[:2], 4)}: x0, y0, x1, y1 of each of target's patches "
            f"in pixels of pred; got {boxes.dtype} of shape {tuple(boxes.shape)}"
        )
    _check_mask("mask", mask, target)
    _check_mask("pred_mask", pred_mask, pred)
    _check_device(pred=pred, target=target, boxes=boxes, mask=mask, pred_mask=pred_mask)
    flat_mask = None if pred_mask is None else _flat3(pred_mask)
    p, d = (x if half else x.to(compute_dtype(pred, target)) for x in (_flat3(pred), target))
    return p, d, boxes.detach(), mask, flat_mask


def check_options(options: NormOptions, shape: Sequence[int] = (1, 1)) -> None:
    """ValueError unless the options are legal for maps of this shape."""
    segments = options.segments
    if not segments or len(set(segments)) != len(segments) or not set(segments) <= set(LEVELS):
        raise ValueError(f"segments must be different numbers out of {LEVELS}, got {segments!r}")
    _check_choice("partition", options.partition, get_args(Partition))
    _check_choice("variant", options.variant, get_args(Variant))
    if options.min_pixels < 0:
        raise ValueError(f"min_pixels must be at least 0, got {options.min_pixels}")
    if not 0 < options.mad_floor < 1:
        raise ValueError(f"mad_floor must be between 0 and 1, both excluded, got {options.mad_floor}")
    low, high = options.range_clip
    if not 0 <= low < high <= 1:
        raise ValueError(f"range_clip must be two quantiles 0 <= low < high <= 1, got {options.range_clip!r}")
    if options.variant == "hdn":
        _check_hdn(options, shape)


def check_reduction(reduction: str) -> None:
    """ValueError unless ``reduction`` is one."""
    _check_choice("reduction", reduction, get_args(Reduction))


def check_trim(trim: float) -> None:
    """ValueError unless ``trim`` is a share that leaves something."""
    if not 0 <= trim < 1:
        raise ValueError(f"trim must be a share 0 <= trim < 1 of each image's pixels, got {trim}")


def check_stats(stats: TargetStats | None, maps: int, options: NormOptions, like: Tensor) -> None:
    """ValueError unless cached statistics have the shapes, dtypes and device that belong to these maps and options.

    Args:
        stats: what the caller brought; None is legal.
        maps: number of maps.
        options: how they are normalised.
        like: a map.
    """
    if stats is None:
        return
    segments = sum(segment_count(level, options.partition) for level in options.segments)
    borders = 0 if options.partition == "grid" else max(options.segments) + 1
    shapes = ((maps, borders), *[(maps, segments)] * 3, (maps,), (maps,))
    computed = compute_dtype(like)
    dtypes = (computed, torch.int64, *[computed] * 3, torch.bool)
    for name, x, shape, dtype in zip(TargetStats._fields, stats, shapes, dtypes, strict=True):
        if tuple(x.shape) != shape or x.dtype != dtype or x.device != like.device:
            raise ValueError(
                f"target_stats do not belong to {maps} maps with segments={options.segments}, partition={options.partition!r}: "
                f"{name} must be {dtype} of shape {shape} on {like.device}, got {x.dtype} of shape {tuple(x.shape)} on "
                f"{x.device}. Compute them with target_statistics() and the same options."
            )


def _check_hdn(options: NormOptions, shape: Sequence[int]) -> None:
    defaults = NormOptions()
    for name in ("min_pixels", "mad_floor", "range_clip"):
        if getattr(options, name) != getattr(defaults, name):
            raise ValueError(f"variant='hdn' is the published code, which has no {name}; leave it at its default")
    if options.partition == "grid" and shape[-1] != shape[-2]:
        raise ValueError(f"variant='hdn' with partition='grid' needs square maps, got {shape[-2]} x {shape[-1]}")


def _check_map(name: str, x: Tensor) -> None:
    _check_floating(name, x)
    if not (x.ndim == 3 or (x.ndim == 4 and x.shape[1] == 1)) or 0 in x.shape[1:]:
        raise ValueError(f"{name} must be (B, H, W) or (B, 1, H, W) with at least one pixel, got {tuple(x.shape)}")


def _check_floating(name: str, x: Tensor) -> None:
    if not x.is_floating_point():
        raise ValueError(f"{name} must be floating point, got {x.dtype}")


def _check_mask(name: str, mask: Tensor | None, of: Tensor) -> None:
    if mask is not None and (mask.shape != of.shape or mask.dtype != torch.bool):
        raise ValueError(
            f"{name} must be bool of shape {tuple(of.shape)}, True = valid; got {mask.dtype} of shape {tuple(mask.shape)}"
        )


def _check_device(**tensors: Tensor | None) -> None:
    devices = {name: t.device for name, t in tensors.items() if t is not None}
    if len(set(devices.values())) > 1:
        raise ValueError(f"all inputs must be on one device, got {', '.join(f'{n} on {d}' for n, d in devices.items())}")


def _check_choice(name: str, value: object, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, choices))}; got {value!r}")


def _flat3(x: Tensor) -> Tensor:
    return x.squeeze(1) if x.ndim == 4 else x


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

    Example:
        >>> check_inputs(torch.rand(1, 4, 4), torch.rand(1, 4, 4))
        >>> check_inputs(torch.rand(1, 4, 4), torch.full((1, 4, 4), torch.nan))
        Traceback (most recent call last):
            ...
        ValueError: target has 16 non-finite values inside its mask, in images [0]: build masks with isfinite()
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
