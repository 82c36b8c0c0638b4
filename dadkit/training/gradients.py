"""The gradients of one iteration: added up over all ranks, and left out where they are not finite.

The ranks add their gradients while the last backward pass is still under way (:class:`Exchange`). The losses of micro-batches
are weighted by their share of the whole iteration's images, on whichever rank they are. So gradients are added, not averaged,
and one process that accumulates over the same parts ends with the same sum. torch's ``DistributedDataParallel`` wants every
rank to run the same number of backward passes. Here a rank may have no image of a kind, and then has fewer micro-batches than
the others, or none.

A non-finite iteration is skipped as if it had never been, counted and written down; after too many the run stops
(:class:`NonFiniteGuard`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.distributed as dist
from torch import Tensor, nn

from dadkit.errors import DadkitError
from dadkit.training.distributed import ALONE, Ranks, lost_peers
from dadkit.training.metrics import append_line, truncate_lines

__all__ = [
    "Exchange",
    "NonFiniteError",
    "NonFiniteGuard",
]


class NonFiniteError(DadkitError):
    """Too many iterations had a non-finite loss or gradient."""


@dataclass(frozen=True)
class _Iteration:
    step: int
    teacher: str | None
    keys: tuple[str, ...]
    finite: Tensor


class NonFiniteGuard:
    """Watches the iterations of one stage without making the device wait.

    The optimiser itself skips a step by a flag on the device. Buffers (the running statistics of batch normalisation), which a
    forward pass changes on its own, are put back here. The flags are read when :meth:`flush` is called, at log intervals.

    Args:
        modules: whose buffers are guarded: the student, and the step with its losses.
        path: JSON lines, one per skipped iteration: step, teacher, the samples' keys.
        limit: this many skipped iterations end the run.
        count: how many there were before.
        start: iterations already done; lines beyond it are those of a process that died.
        ranks: the processes that train; all of them skip the same iterations, and the first one writes.
    """

    def __init__(
        self, modules: Sequence[nn.Module], path: Path, *, limit: int, count: int = 0, start: int = 0, ranks: Ranks = ALONE
    ) -> None:
        self.path, self.limit, self.count, self.ranks = path, limit, count, ranks
        self._buffers = [buffer for module in modules for buffer in module.buffers()]
        self._saved = [buffer.clone() for buffer in self._buffers]
        self._pending: list[_Iteration] = []
        if ranks.main:
            truncate_lines(path, lambda line: line["step"] <= start)

    @property
    def _floating(self) -> list[tuple[Tensor, Tensor]]:
        pairs = zip(self._buffers, self._saved, strict=True)
        return [(buffer, saved) for buffer, saved in pairs if buffer.is_floating_point()]

    def before(self) -> None:
        """Remember the buffers, before an iteration's first forward pass."""
        if self._buffers:
            torch._foreach_copy_(self._saved, self._buffers)

    def changes(self) -> list[Tensor]:
        """By how much the iteration's forward passes moved each floating-point buffer."""
        return [buffer - saved for buffer, saved in self._floating]

    def move(self, changes: Sequence[Tensor]) -> None:
        """Let the floating-point buffers have moved by ``changes`` instead: by the mean of what all ranks have seen."""
        for (buffer, saved), change in zip(self._floating, changes, strict=True):
            buffer.copy_(saved + change)

    def after(self, finite: Tensor, step: int, teacher: str | None, keys: tuple[str, ...]) -> None:
        """Put the buffers back unless ``finite`` (a bool on the device), and remember whose iteration it was."""
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(torch.where(finite, buffer, saved))
        self._pending.append(_Iteration(step, teacher, keys, finite))

    def flush(self) -> int:
        """Read the flags, write down what was skipped, and return how many iterations were skipped since the last call.

        Raises:
            NonFiniteError: ``limit`` is reached.
        """
        if not self._pending:
            return 0
        flags = torch.stack([iteration.finite for iteration in self._pending]).tolist()
        skipped = [iteration for iteration, finite in zip(self._pending, flags, strict=True) if not finite]
        self._pending = []
        for iteration in skipped:
            keys = [key for some in self.ranks.gather(iteration.keys) for key in some]
            if self.ranks.main:
                append_line(self.path, {"step": iteration.step, "teacher": iteration.teacher, "keys": keys})
        self.count += len(skipped)
        if self.count >= self.limit:
            raise NonFiniteError(
                f"stopped at iteration {skipped[-1].step}: {self.count} iterations had a non-finite loss or gradient "
                f"(max_nonfinite: {self.limit}). Their samples' keys are in {self.path}. "
                "Look at those images, lower optim.lr, lengthen optim.warmup, or use precision: fp32."
            )
        return len(skipped)


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
    """Inverts :func:`_flat`."""
    pieces = torch.split(flat, [tensor.numel() for tensor in like])
    return [piece.view(tensor.shape) for piece, tensor in zip(pieces, like, strict=True)]
