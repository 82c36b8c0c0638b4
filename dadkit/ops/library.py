"""Finding and loading the compiled operators, and telling PyTorch the shapes of what they answer."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dadkit.ops.reference.options import segment_count

__all__ = ["LIBRARY_STEM", "devices", "library_path", "load_error", "loaded", "operators", "stats_width"]

LIBRARY_STEM = "_kernels"
_FOLDER = Path(__file__).parent
_HEAD, _FIELDS, _MATCHING_HEAD = 12, 11, 10  # of a row of `stats`: csrc/common/record.h


def library_path() -> Path | None:
    """The compiled library beside this file; None where it was not built."""
    return next((p for p in sorted(_FOLDER.glob(f"{LIBRARY_STEM}*")) if p.suffix in {".so", ".dylib"}), None)


@functools.cache
def load_error() -> str | None:
    """Load the library, once; why it is not there, or None where it is."""
    path = library_path()
    if path is None:
        return (
            "the fused operators are not built into this installation "
            "(no compiler was found when it was installed, or none was asked for)"
        )
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return f"{path.name} was built but cannot be loaded by torch {torch.__version__}: {error}"
    _register_fakes()
    return None


NAMESPACE = "dadkit"
"""Where the operators are called from; tests point it to ``dadkit_emulated``, the device kernels run on the CPU."""


def operators() -> Any:
    """The compiled operators."""
    return getattr(torch.ops, NAMESPACE)


def loaded() -> bool:
    """Whether the compiled operators can be called."""
    return load_error() is None


def devices() -> frozenset[str]:
    """The types of device that the operators are compiled for."""
    if not loaded():
        return frozenset()
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key
    return frozenset({"meta"} | {key.lower() for key in ("CPU", "CUDA") if has_kernel("dadkit::hybrid_forward", key)})


def stats_width(segments: Sequence[int], partition: int, variant: int) -> int:
    """Length of the row that an operator keeps for its backward, in float64."""
    kind = ("range", "quantile", "grid")[partition]
    contexts = sum(segment_count(level, kind) for level in segments)
    added = variant == 0 and 1 not in segments  # the whole map's deviation is needed for the floor
    return _HEAD + _FIELDS * (contexts + added)


def _register_fakes() -> None:
    fake = torch.library.register_fake

    def losses(target: Tensor, segments: Sequence[int], partition: int, variant: int, want_map: bool) -> tuple[Tensor, ...]:
        per_map = target.shape[:-2]
        shape = target.shape if want_map else (0,)
        width = stats_width(segments, partition, variant)
        return (
            target.new_empty(per_map),
            target.new_empty(per_map),
            target.new_empty(shape),
            target.new_empty(shape, dtype=torch.bool),
            target.new_empty((*per_map, width), dtype=torch.float64),
        )

    @fake("dadkit::hybrid_forward")
    def _(
        pred,
        target,
        mask,
        edges,
        count,
        median,
        mad,
        global_mad,
        flat,
        segments,
        partition,
        variant,
        min_pixels,
        mad_floor,
        want_map,
    ):
        return losses(target, segments, partition, variant, want_map)

    @fake("dadkit::local_global_forward")
    def _(
        pred,
        target,
        boxes,
        mask,
        edges,
        count,
        median,
        mad,
        global_mad,
        flat,
        segments,
        partition,
        variant,
        min_pixels,
        mad_floor,
        want_map,
    ):
        return losses(target, segments, partition, variant, want_map)

    @fake("dadkit::hybrid_backward")
    def _(grad, pred, target, mask, stats, segments, partition, variant, mad_floor, detach_median):
        return pred.new_empty(pred.shape)

    @fake("dadkit::local_global_backward")
    def _(grad, pred, target, boxes, mask, stats, segments, partition, variant, mad_floor, detach_median):
        return pred.new_empty(pred.shape)

    @fake("dadkit::gradient_matching_forward")
    def _(pred, target, mask, scales, normalize, want_map):
        shape = pred.shape if want_map else (0,)
        return (
            pred.new_empty((pred.shape[0], scales)),
            pred.new_empty((pred.shape[0], scales)),
            pred.new_empty(shape),
            pred.new_empty(shape, dtype=torch.bool),
            pred.new_empty((pred.shape[0], _MATCHING_HEAD + 2 * scales), dtype=torch.float64),
        )

    @fake("dadkit::gradient_matching_backward")
    def _(grad, pred, target, mask, stats, scales, normalize):
        return pred.new_empty(pred.shape)

    @fake("dadkit::segment_statistics")
    def _(target, mask, edges, segments, partition, variant):
        images = target.shape[0]
        contexts = sum(segment_count(level, ("range", "quantile", "grid")[partition]) for level in segments)
        borders = 0 if partition == 2 else max(segments) + 1
        return (
            target.new_empty((images, borders)),
            target.new_empty((images, contexts), dtype=torch.int64),
            target.new_empty((images, contexts)),
            target.new_empty((images, contexts)),
            target.new_empty((images,)),
            target.new_empty((images,), dtype=torch.bool),
        )

    @fake("dadkit::order_statistics")
    def _(x, mask, ranks):
        return x.new_empty(ranks.shape)

    @fake("dadkit::median_mad_forward")
    def _(x, mask):
        return x.new_empty(x.shape[:1]), x.new_empty(x.shape[:1]), x.new_empty((x.shape[0], 5), dtype=torch.float64)

    @fake("dadkit::median_mad_backward")
    def _(grad_median, grad_mad, x, mask, stats):
        return x.new_empty(x.shape)

    @fake("dadkit::normalize_forward")
    def _(x, mask, reference, edges, segments, partition, variant, mad_floor):
        batch, height, width = x.shape
        stats = x.new_empty((batch, stats_width(segments, partition, variant)), dtype=torch.float64)
        return x.new_empty((batch, len(segments), height, width)), stats

    @fake("dadkit::normalize_backward")
    def _(grad, x, mask, reference, stats, segments, partition, variant, mad_floor, detach_median):
        return x.new_empty(x.shape)
