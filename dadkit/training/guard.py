"""Non-finite iterations: skipped as if they had never been, counted, written down, and after too many the run stops."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from dadkit.errors import DadkitError
from dadkit.training.distributed import ALONE, Ranks
from dadkit.training.metrics import append_line, truncate_lines

__all__ = ["NonFiniteError", "NonFiniteGuard"]


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
