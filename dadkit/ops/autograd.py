"""The compiled operators as differentiable functions: autograd, vmap, and a clear refusal of second derivatives.

Every ``forward`` names its parameters (csrc/common/operators.h says what they are): torch.compile of torch 2.11 counts them, to
know that there is no context among them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import Parameter

from dadkit.ops import library
from dadkit.ops.library import codes, operators
from dadkit.ops.reference.options import NormOptions

__all__ = ["GradientMatching", "HybridNorm", "MedianMad", "Normalize", "gives_means", "hybrid_mean", "matching_mean"]


_transformed = getattr(torch._C, "_are_functorch_transforms_active", lambda: True)  # not public
"""Whether a transform of torch.func is active."""


class _PerMap(Function):
    """A function that treats the maps of a batch one by one."""

    @classmethod
    def vmap(cls, info: Any, in_dims: Sequence[int | None], *args: Any) -> tuple[Any, Any]:
        """Folds a mapped axis into the batch axis."""
        size = info.batch_size
        folded = []
        for arg, dim in zip(args, in_dims, strict=True):
            if not isinstance(arg, Tensor):
                folded.append(arg)
                continue
            moved = arg.expand(size, *arg.shape) if dim is None else arg.movedim(dim, 0)
            folded.append(moved.reshape(size * moved.shape[1], *moved.shape[2:]).contiguous())
        answer = cls.apply(*folded)
        single = isinstance(answer, Tensor)
        outputs = [
            y.new_empty(size, *y.shape) if y.numel() == 0 and y.dim() == 1 else y.unflatten(0, (size, y.shape[0] // size))
            for y in ((answer,) if single else answer)
        ]
        return (outputs[0], 0) if single else (tuple(outputs), (0,) * len(outputs))


class _Backward(_PerMap):
    """A backward as a function of its own, so that a second derivative is an error and not a silent zero."""

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        raise RuntimeError(
            "second derivatives are not implemented by the fused operators; use backend='reference' for them (the losses are "
            "piecewise smooth, so they are those of the pieces)"
        )

    @classmethod
    def run(cls, *args: Any) -> Tensor:
        """Returns the gradient; as a node of the graph only where one is built (``create_graph``)."""
        return cls.apply(*args) if torch.is_grad_enabled() else cls.forward(*args)  # type: ignore[no-any-return]


class _SecondDerivative(_Backward):
    """The identity on a gradient; ``pred`` is what a second derivative would be with respect to."""

    @staticmethod
    def forward(gradient, pred):  # type: ignore[no-untyped-def]
        return gradient.view_as(gradient)


class _Mean(Function):
    """The mean of a loss from an operator that computes its gradient in the same pass; backward only scales that."""

    @staticmethod
    def forward(
        ctx: Any, operator: Any, options: Sequence[Any], want_gradient: bool, pred: Tensor, target: Tensor, mask: Tensor | None
    ) -> Tensor:
        loss, ctx.gradient = operator(pred, target, mask, *options, want_gradient)
        ctx.operator, ctx.options = operator, options
        ctx.save_for_backward(pred, target, mask)
        return loss  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gradient, ctx.gradient = ctx.gradient, None  # given away: what autograd makes of it is its own matter
        if gradient is None:  # in a second backward of a retained graph
            gradient = ctx.operator(*ctx.saved_tensors, *ctx.options, True)[1]
        try:
            factor = grad.item()
        except RuntimeError:  # of many gradients at once (vmap), or of one that is traced
            gradient = gradient * grad
        else:
            if factor != 1:
                gradient.mul_(factor)
        if torch.is_grad_enabled():
            gradient = _SecondDerivative.apply(gradient, ctx.saved_tensors[0])
        return None, None, None, gradient, None, None


def gives_means(pred: Tensor) -> bool:
    """Returns True if the mean of a loss of ``pred`` and its gradient come from one operator.

    There are such operators on the CPU. Transforms, compilation and subclasses of tensors take the operators apart.
    """
    plain = pred.is_cpu and type(pred) in _PLAIN
    return plain and not _transformed() and not torch.compiler.is_compiling() and _means(library.NAMESPACE) is not None


_PLAIN = (Tensor, Parameter)


@functools.cache
def _means(namespace: str) -> tuple[Any, Any] | None:
    """The operators that compute a loss's mean with its gradient: hybrid and gradient matching; None where there are none."""
    ops = getattr(torch.ops, namespace)
    return (ops.hybrid_mean.default, ops.gradient_matching_mean.default) if hasattr(ops, "hybrid_mean") else None


_packed = functools.lru_cache(codes)
"""For means, which are not compiled: a call in caches that others have swept pays for every line of Python that it runs."""


def hybrid_mean(pred: Tensor, target: Tensor, mask: Tensor | None, known: Sequence[Tensor], options: NormOptions) -> Tensor:
    """Returns the mean of the hybrid loss; gradient to ``pred``."""
    return _mean(0, pred, target, mask, (known, _packed(options), options.mad_floor))


def matching_mean(pred: Tensor, target: Tensor, mask: Tensor | None, scales: int, normalize: bool) -> Tensor:
    """Returns the mean of the gradient matching loss; gradient to ``pred``."""
    return _mean(1, pred, target, mask, (scales, normalize))


def _mean(which: int, pred: Tensor, target: Tensor, mask: Tensor | None, options: Sequence[Any]) -> Tensor:
    operator = _means(library.NAMESPACE)[which]  # type: ignore[index]  # gives_means says that they are there
    loss: Tensor = _Mean.apply(operator, options, pred.requires_grad and torch.is_grad_enabled(), pred, target, mask)
    return loss


class _Loss(_PerMap):
    """A loss operator: answers (total, number, map, counted, stats), of which total and map have gradients."""

    @staticmethod
    def keep(ctx: Any, per_pixel: bool, options: Sequence[Any], tensors: Sequence[Any], output: Sequence[Tensor]) -> None:
        """Notes for the backward whether there is a map, the options, and the tensors."""
        ctx.per_pixel, ctx.options = per_pixel, options
        ctx.mark_non_differentiable(output[1], output[3], output[4])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*tensors, output[4])


class _HybridNormBackward(_Backward):
    @staticmethod
    def forward(grad, pred, target, boxes, mask, stats, options):  # type: ignore[no-untyped-def]
        chosen = (codes(options), options.mad_floor)
        return operators().hybrid_backward.default(grad, pred, target, boxes, mask, stats, *chosen)


class HybridNorm(_Loss):
    """The normalised loss of maps, or, where ``boxes`` (B, N, 4) are given, of patches (B, N, h, w); gradient to ``pred``."""

    @staticmethod
    def forward(  # type: ignore[no-untyped-def]
        pred, target, boxes, mask, edges, count, median, mad, global_mad, flat, options: NormOptions, want_map: bool
    ):
        known = [x for x in (edges, count, median, mad, global_mad, flat) if x is not None]
        chosen = (codes(options), options.mad_floor)
        return operators().hybrid_forward.default(pred, target, boxes, mask, known, *chosen, want_map)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        _Loss.keep(ctx, inputs[11], inputs[10], inputs[:4], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        total, _, losses = grads[:3]
        if ctx.per_pixel and losses is not None:  # the gradient of the map, plus that of the totals, if any
            upstream: Tensor | None = losses if total is None else losses + total[..., None, None]
        else:  # a total alone counts for all pixels alike
            upstream = total
        answer = None
        if upstream is not None:
            answer = _HybridNormBackward.run(upstream.contiguous(), *ctx.saved_tensors, ctx.options)
        return (answer, *(None,) * 11)


class _GradientMatchingBackward(_Backward):
    @staticmethod
    def forward(grad, pred, target, mask, stats, scales, normalize):  # type: ignore[no-untyped-def]
        return operators().gradient_matching_backward.default(grad, pred, target, mask, stats, scales, normalize)


class GradientMatching(_Loss):
    """The gradient matching loss; total and number are (B, scales); gradient to ``pred``."""

    @staticmethod
    def forward(pred, target, mask, scales, normalize, want_map):  # type: ignore[no-untyped-def]
        return operators().gradient_matching_forward.default(pred, target, mask, scales, normalize, want_map)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        _Loss.keep(ctx, inputs[5], inputs[3:5], inputs[:3], output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        upstream = grads[2] if ctx.per_pixel else grads[0]
        answer = None
        if upstream is not None:
            answer = _GradientMatchingBackward.run(upstream.contiguous(), *ctx.saved_tensors, *ctx.options)
        return (answer, *(None,) * 5)


class _MedianMadBackward(_Backward):
    @staticmethod
    def forward(grad_median, grad_mad, x, mask, stats):  # type: ignore[no-untyped-def]
        return operators().median_mad_backward.default(grad_median, grad_mad, x, mask, stats)


class MedianMad(_PerMap):
    """(x, mask) -> (median (B,), mad (B,), stats)."""

    @staticmethod
    def forward(x, mask):  # type: ignore[no-untyped-def]
        return operators().median_mad_forward.default(x, mask)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[2])
        ctx.save_for_backward(*inputs, output[2])

    @staticmethod
    def backward(ctx: Any, grad_median: Tensor, grad_mad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return _MedianMadBackward.run(grad_median.contiguous(), grad_mad.contiguous(), *ctx.saved_tensors), None


class _NormalizeBackward(_Backward):
    @staticmethod
    def forward(grad, x, mask, reference, stats, options):  # type: ignore[no-untyped-def]
        return operators().normalize_backward.default(grad, x, mask, reference, stats, codes(options), options.mad_floor)


class Normalize(_PerMap):
    """(x, mask, reference, edges, options) -> ((B, L, H, W), stats); gradient to ``x``."""

    @staticmethod
    def forward(x, mask, reference, edges, options: NormOptions):  # type: ignore[no-untyped-def]
        return operators().normalize_forward.default(x, mask, reference, edges, codes(options), options.mad_floor)

    @staticmethod
    def setup_context(ctx: Any, inputs: Sequence[Any], output: tuple[Tensor, ...]) -> None:
        ctx.options = inputs[4]
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(*inputs[:3], output[1])

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, ...]:
        return (_NormalizeBackward.run(grad.contiguous(), *ctx.saved_tensors, ctx.options), *(None,) * 4)
