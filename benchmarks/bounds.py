"""What bounds the fused loss on the CPU: nanoseconds a pixel of one 560 x 560 image, forward and backward, one thread.

    python benchmarks/bounds.py

Per instruction set: ``columns`` has leaves that change between columns alone, so that nearly every vector lies in one leaf;
``scene`` is the benchmark's; in ``noise`` every vector holds several leaves. ``cold`` is the scene with 64 MiB read between
calls. Below them how long the memory takes to deliver what must be read and written once, and the speed-up of eight images from
one thread to sixteen by the tasks alone: eight of one image each, and what a call costs at all. The fastest of many calls is
shown: other processes only add.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import torch
from losses import SIZE, scene
from torch import Tensor

from dadkit.losses import hybrid_norm_loss

ROUNDS = 60
COMPULSORY = 6 * 4  # bytes a pixel: both maps forward and again backward, and the gradient fetched and written


def seconds(function: Callable[[], object], between: Callable[[], object] = lambda: None) -> float:
    """Returns the shortest of a call's times."""
    times = []
    for _ in range(ROUNDS):
        between()
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def step(target: Tensor) -> Callable[[], object]:
    """Returns the loss of a noisy copy of the target, forward and backward, as a call."""
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    pred = (3 * target + 0.2 + 0.1 * noise).requires_grad_()
    return lambda: torch.autograd.grad(hybrid_norm_loss(pred, target, backend="fused"), pred)


def main() -> None:
    """Prints the table."""
    torch.set_num_threads(1)
    ramp = torch.linspace(0, 1, SIZE).expand(1, SIZE, SIZE).contiguous()
    maps = {"columns": ramp, "scene": scene(1, 0), "noise": torch.randn(1, SIZE, SIZE)}
    cache = torch.zeros(16 << 20)
    pixel = 1e9 / SIZE**2
    for isa in ("plain", "avx2", "avx512"):
        os.environ["DADKIT_ISA"] = isa
        found = {name: pixel * seconds(step(target)) for name, target in maps.items()}
        found["cold"] = pixel * seconds(step(maps["scene"]), cache.sum)
        print(f"{isa:7}", *(f"{name} {value:5.2f} ns" for name, value in found.items()), sep="  ")
    a, b, c = torch.rand(3, 32 << 20)
    rate = 3 * a.nbytes / seconds(lambda: torch.add(a, b, out=c))
    print(f"memory   {rate / 1e9:.1f} GB/s, {COMPULSORY} bytes a pixel in {COMPULSORY * 1e9 / rate:.2f} ns")
    eight, call = seconds(step(scene(8, 0))), seconds(step(torch.rand(8, 8, 8)))
    ratio = eight / (eight / 8 + call)
    print(f"eight images {1e3 * eight:.2f} ms, a call {1e3 * call:.2f} ms: {ratio:.1f}x from one thread to sixteen")


if __name__ == "__main__":
    main()
