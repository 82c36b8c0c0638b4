"""The compiled operators as differentiable functions: autograd, vmap, and a clear refusal of second derivatives.

Every ``forward`` names its parameters (csrc/common/schema.h says what they are): torch.compile of torch 2.11 counts them, to
know that there is no context among them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor
from torch.autograd import Function

from dadkit.ops.library import operators

__all__ = ["GradientMatching", "Hybrid", "LocalGlobal", "MedianMad", "Normalize"]


def _fold(apply: Callable[..., Any], info: Any, in_dims: Sequence[int | None], args: Sequence[Any]) -> tuple[Any, Any]:
    """Fold a mapped axis into the batch axis: the operators treat the maps of a batch one by one anyway."""
    size = info.batch_size
    folded = []
    for arg, dim in zip(args, in_dims, strict=True):
        if not isinstance(arg, Tensor):
            folded.append(arg)
            continue
        moved = arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)
        folded.append(moved.reshape(size * moved.shape[1], *moved.shape[2:]).contiguous())
    answer = apply(*folded)
    single = isinstance(answer, Tensor)
    outputs = [
        y.new_empty(size, *y.shape) if y.numel() == 0 and y.dim() == 1 else y.unflatten(0, (size, y.shape[0] // size))
        for y in ((answer,) if single else answer)
    ]
    return (outputs[0], 0) if single else (tuple(outputs), (0,) * len(outputs))


def _refuse(name: str) -> RuntimeError:
    return RuntimeError(
        f"{name}: second derivatives are not implemented by the fused operators; use backend='reference' for them "
        "(the loss is piecewise smooth, so they are those of the pieces)"
    )


class _Once(Function):
    """A backward as a function of its own, so that a second derivative is an error and not a silent zero."""

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        return _fold(cls.apply, info, in_dims, args)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
        pass


class _HybridBackward(_Once):
    @staticmethod
    def forward(grad, pred, target, mask, stats, segments, partition, variant, mad_floor, detach):
        return operators().hybrid_backward(grad, pred, target, mask, stats, segments, partition, variant, mad_floor, detach)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _refuse("hybrid_norm_loss")


class _LocalGlobalBackward(_Once):
    @staticmethod
    def forward(grad, pred, target, boxes, mask, stats, segments, partition, variant, mad_floor, detach):
        options = (segments, partition, variant, mad_floor, detach)
        return operators().local_global_backward(grad, pred, target, boxes, mask, stats, *options)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _refuse("local_global_loss")


class _GradientMatchingBackward(_Once):
    @staticmethod
    def forward(grad, pred, target, mask, stats, scales, normalize):
        return operators().gradient_matching_backward(grad, pred, target, mask, stats, scales, normalize)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _refuse("gradient_matching_loss")


class _MedianMadBackward(_Once):
    @staticmethod
    def forward(grad_median, grad_mad, x, mask, stats):
        return operators().median_mad_backward(grad_median, grad_mad, x, mask, stats)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _refuse("median_mad")


class _NormalizeBackward(_Once):
    @staticmethod
    def forward(grad, x, mask, reference, stats, segments, partition, variant, mad_floor, detach):
        return operators().normalize_backward(grad, x, mask, reference, stats, segments, partition, variant, mad_floor, detach)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise _refuse("normalize")


def _upstream(grads: Sequence[Tensor | None], per_pixel: bool) -> Tensor | None:
    """The gradient of the totals, or of the maps where there are maps (then plus that of the totals, if any)."""
    total, losses = grads[0], grads[2]
    if not per_pixel:
        return None if total is None else total.contiguous()
    if losses is None:
        return total  # both None; a total alone counts for all pixels alike
    return losses.contiguous() if total is None else (losses + total[..., None, None]).contiguous()


class Hybrid(Function):
    """(pred, target, mask, edges, count, median, mad, global_mad, flat, segments, partition, variant, min_pixels, mad_floor,
    detach_median, want_map) -> (total (B,), number (B,), map, counted, stats); gradient to ``pred``."""

    @staticmethod
    def forward(
        pred, target, mask, edges, count, median, mad, global_mad, flat,
        segments, partition, variant, min_pixels, mad_floor, detach_median, want_map,
    ):  # fmt: skip
        known = (edges, count, median, mad, global_mad, flat)
        options = (segments, partition, variant, min_pixels, mad_floor)
        return operators().hybrid_forward(pred, target, mask, *known, *options, want_map)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        pred, target, mask = inputs[:3]
        ctx.options = (inputs[9], inputs[10], inputs[11], inputs[13], inputs[14])
        ctx.per_pixel = inputs[15]
        ctx.mark_non_differentiable(output[1], output[3], output[4])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(pred, target, mask, output[4])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        pred, target, mask, stats = ctx.saved_tensors
        grad = _upstream(grads, ctx.per_pixel)
        answer = None if grad is None else _HybridBackward.apply(grad, pred, target, mask, stats, *ctx.options)
        return (answer, *(None,) * 15)

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        return _fold(cls.apply, info, in_dims, args)


class LocalGlobal(Function):
    """As :class:`Hybrid`, with boxes (B, N, 4) after the target (B, N, h, w); total and number are (B, N)."""

    @staticmethod
    def forward(
        pred, target, boxes, mask, edges, count, median, mad, global_mad, flat,
        segments, partition, variant, min_pixels, mad_floor, detach_median, want_map,
    ):  # fmt: skip
        known = (edges, count, median, mad, global_mad, flat)
        options = (segments, partition, variant, min_pixels, mad_floor)
        return operators().local_global_forward(pred, target, boxes, mask, *known, *options, want_map)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        pred, target, boxes, mask = inputs[:4]
        ctx.options = (inputs[10], inputs[11], inputs[12], inputs[14], inputs[15])
        ctx.per_pixel = inputs[16]
        ctx.mark_non_differentiable(output[1], output[3], output[4])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(pred, target, boxes, mask, output[4])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        pred, target, boxes, mask, stats = ctx.saved_tensors
        grad = _upstream(grads, ctx.per_pixel)
        answer = None if grad is None else _LocalGlobalBackward.apply(grad, pred, target, boxes, mask, stats, *ctx.options)
        return (answer, *(None,) * 16)

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        return _fold(cls.apply, info, in_dims, args)


class GradientMatching(Function):
    """(pred, target, mask, scales, normalize, want_map) -> (total (B, S), number (B, S), map, counted, stats)."""

    @staticmethod
    def forward(pred, target, mask, scales, normalize, want_map):
        return operators().gradient_matching_forward(pred, target, mask, scales, normalize, want_map)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        pred, target, mask = inputs[:3]
        ctx.options, ctx.per_pixel = inputs[3:5], inputs[5]
        ctx.mark_non_differentiable(output[1], output[3], output[4])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(pred, target, mask, output[4])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        pred, target, mask, stats = ctx.saved_tensors
        grad = grads[2] if ctx.per_pixel else grads[0]
        answer = None
        if grad is not None:
            answer = _GradientMatchingBackward.apply(grad.contiguous(), pred, target, mask, stats, *ctx.options)
        return (answer, *(None,) * 5)

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        return _fold(cls.apply, info, in_dims, args)


class MedianMad(Function):
    """(x, mask) -> (median (B,), mad (B,), stats)."""

    @staticmethod
    def forward(x: Tensor, mask: Tensor | None) -> tuple[Tensor, ...]:
        return operators().median_mad_forward(x, mask)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(*inputs, output[2])

    @staticmethod
    def backward(ctx: Any, grad_median: Tensor, grad_mad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, stats = ctx.saved_tensors
        return _MedianMadBackward.apply(grad_median.contiguous(), grad_mad.contiguous(), x, mask, stats), None

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        return _fold(cls.apply, info, in_dims, args)


class Normalize(Function):
    """(x, mask, reference, edges, segments, partition, variant, mad_floor, detach_median) -> ((B, L, H, W), stats)."""

    @staticmethod
    def forward(x, mask, reference, edges, segments, partition, variant, mad_floor, detach_median):
        return operators().normalize_forward(x, mask, reference, edges, segments, partition, variant, mad_floor)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        ctx.options = inputs[4:]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[:3], output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        x, mask, reference, stats = ctx.saved_tensors
        answer = _NormalizeBackward.apply(grad.contiguous(), x, mask, reference, stats, *ctx.options)
        return (answer, *(None,) * 8)

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        return _fold(cls.apply, info, in_dims, args)
