"""What a call of the fused loss costs beside its arithmetic: microseconds on maps of 8 x 8, one thread.

    python benchmarks/overhead.py

``raw`` is the bare operator, which computes the loss and its gradient; ``loss`` is the public function and ``backward()``. The
tenth percentile of many short rounds is shown, which other processes on the machine disturb least.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import torch

from dadkit.losses import hybrid_norm_loss

ROUNDS, CALLS = 2000, 4


def microseconds(function: Callable[[], object]) -> float:
    """Returns the tenth percentile over rounds of a call's time."""
    times = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        for _ in range(CALLS):
            function()
        times.append(1e6 * (time.perf_counter() - begin) / CALLS)
    return sorted(times)[ROUNDS // 10]


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    pred, target = torch.rand(2, 2, 8, 8)
    tracked = pred.clone().requires_grad_()
    ops, kind = torch.ops.dadkit, ([0, 0, 16, 0, 1, 2, 4], 0.01)

    def raw() -> None:
        ops.hybrid_mean(pred, target, None, [], *kind, True)

    def forward() -> None:
        hybrid_norm_loss(tracked, target, backend="fused")

    def loss() -> None:
        hybrid_norm_loss(tracked, target, backend="fused").backward()

    for function in (raw, forward, loss):
        print(f"{function.__name__:8} {microseconds(function):6.0f} us")


if __name__ == "__main__":
    main()
