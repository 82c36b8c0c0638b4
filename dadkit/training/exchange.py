"""Adds up the gradients of all ranks, while the last backward pass is still under way.

The losses of micro-batches are weighted by their share of the whole iteration's images, on whichever rank they are; so the
gradients of ranks are added, not averaged, and one process that accumulates over the same parts ends with the same sum.

This is not torch's ``DistributedDataParallel`` because that wants every rank to run the same number of backward passes. Here a
rank may have no image of a kind, and then has fewer micro-batches than the others, or none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dadkit.training.distributed import Ranks, lost_peers
from dadkit.training.guard import NonFiniteGuard

__all__ = ["Exchange"]

BUCKET_BYTES = 25 << 20


@dataclass(eq=False)
class _Bucket:
    """Parameters whose gradients travel together."""

    params: list[nn.Parameter]
    missing: set[int] = field(default_factory=set)
    sums: Tensor | None = None
    work: dist.Work | None = None


class Exchange:
    """Brings the gradients of one model to their sum over all ranks; does nothing if there is one.

    Args:
        ranks: the processes.
        params: all parameters of the optimiser, in the same order on every rank.
        bucket_bytes: gradients sent at once.
    """

    def __init__(self, ranks: Ranks, params: Sequence[nn.Parameter], *, bucket_bytes: int = BUCKET_BYTES) -> None:
        self.ranks = ranks
        self._params = list(params)
        self._buckets = _buckets(self._params, bucket_bytes) if ranks.several else []
        self._next = len(self._buckets)  # the bucket to be sent next; those behind the last are not due
        for bucket in self._buckets:
            for param in bucket.params:
                param.register_post_accumulate_grad_hook(self._arrived(bucket))

    def expect(self) -> None:
        """The next backward pass is the iteration's last: send each bucket as soon as its gradients are complete."""
        self._next = 0
        for bucket in self._buckets:
            bucket.missing = {id(param) for param in bucket.params}

    def finish(self, total: Tensor, guard: NonFiniteGuard) -> Tensor:
        """Wait until all gradients are sums over the ranks.

        Args:
            total: the iteration's loss on this rank, a scalar.
            guard: knows by how much the iteration moved the buffers (running statistics) on this rank; they are moved by the
                mean over the ranks instead, so that all have the same.

        Returns:
            The loss, summed over the ranks.
        """
        if not self.ranks.several:
            return total
        changes = guard.changes()
        with lost_peers():
            used = self.ranks.union([param.grad is not None for param in self._params])
            if self._next == len(self._buckets):  # this rank had no backward pass
                self.expect()
            while self._next < len(self._buckets):
                self._send()
            numbers = _flat([total.float(), *(change.float() / self.ranks.count for change in changes)])
            rest = dist.all_reduce(numbers, async_op=True)
            for bucket in self._buckets:
                _receive(bucket)
            assert rest is not None
            rest.wait()
        for param, somewhere in zip(self._params, used, strict=True):
            if not somewhere:
                param.grad = None
        summed, *means = _parts(numbers, [total, *changes])
        guard.move([mean.to(change.dtype) for mean, change in zip(means, changes, strict=True)])
        return summed

    def _arrived(self, bucket: _Bucket) -> Callable[[Tensor], None]:
        def hook(param: Tensor) -> None:
            if bucket.work is not None:  # its first part is already on its way
                raise RuntimeError("a parameter's gradient came in two parts in one backward pass; checkpoint without re-entry")
            bucket.missing.discard(id(param))
            with lost_peers():
                while self._next < len(self._buckets) and not self._buckets[self._next].missing:
                    self._send()

        return hook

    def _send(self) -> None:
        """Begin to add up the next bucket. All ranks send them in one order, whatever the order of their gradients."""
        bucket = self._buckets[self._next]
        self._next += 1
        bucket.sums = _flat([torch.zeros_like(param) if param.grad is None else param.grad for param in bucket.params])
        bucket.work = dist.all_reduce(bucket.sums, async_op=True)


def _receive(bucket: _Bucket) -> None:
    assert bucket.work is not None
    assert bucket.sums is not None
    bucket.work.wait()
    for param, total in zip(bucket.params, _parts(bucket.sums, bucket.params), strict=True):
        if param.grad is None:
            param.grad = torch.empty_like(param)
        param.grad.copy_(total)
    bucket.work = bucket.sums = None


def _buckets(params: Sequence[nn.Parameter], size: int) -> list[_Bucket]:
    """Last parameters first, as their gradients come first; one dtype and device to a bucket."""
    buckets: list[_Bucket] = []
    filled, kind = 0, None
    for param in reversed(params):
        if not buckets or filled >= size or kind != (param.dtype, param.device):
            buckets.append(_Bucket([]))
            filled, kind = 0, (param.dtype, param.device)
        buckets[-1].params.append(param)
        filled += param.numel() * param.element_size()
    return buckets


def _flat(tensors: Sequence[Tensor]) -> Tensor:
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors])


def _parts(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """The inverse of :func:`_flat`."""
    pieces = torch.split(flat, [tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
