"""How much a busy process on the same cores slows the fused loss down, forward and backward, against the same cores without it.

    python benchmarks/load.py [--threads 2] [--batch 1]

Both are held to as many cores as there are threads. Rounds with and without the busy process alternate; the ratio of their
medians is shown. A fair scheduler alone makes it up to two.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import time

import torch

from dadkit.losses import hybrid_norm_loss, ssi_loss

ROUNDS, CALLS = 6, 40


def main() -> None:
    """Prints a line per loss."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch", type=int, default=1)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    torch.set_num_threads(options.threads)
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(options.batch, 1, 560, 560, generator=generator)
    pred = (target + 0.3 * torch.randn(target.shape, generator=generator)).requires_grad_()
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])  # inherits the cores
    times: dict[tuple[str, bool], list[float]] = {}
    try:
        for number in range(2 * ROUNDS):
            loaded = bool(number % 2)
            busy.send_signal(signal.SIGCONT if loaded else signal.SIGSTOP)
            for loss in (hybrid_norm_loss, ssi_loss):
                for _ in range(CALLS):
                    begin = time.perf_counter()
                    torch.autograd.grad(loss(pred, target, backend="fused"), pred)
                    times.setdefault((loss.__name__, loaded), []).append(1e3 * (time.perf_counter() - begin))
    finally:
        busy.kill()
    for loss in (hybrid_norm_loss, ssi_loss):
        alone, beside = (statistics.median(times[loss.__name__, loaded]) for loaded in (False, True))
        print(f"{loss.__name__:18} alone {alone:7.2f} ms   beside a busy process {beside:7.2f} ms   {beside / alone:5.2f}x")


if __name__ == "__main__":
    main()
