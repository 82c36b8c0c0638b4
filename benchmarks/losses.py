"""Time and memory of the fused losses beside plain PyTorch, paired in one process; writes JSON and prints a table.

    python benchmarks/losses.py --batch 8 --rounds 5 --threads 2 --output losses.json

Method, see README.md: in every round each contender runs once, in turn; "cold" evicts the caches before each run by sweeping
320 MB, as the rest of a training step would; the ratio is that of the medians. Data: piecewise smooth 560 x 560 maps with
noise, seed 0.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from eager_losses import BASELINES, eager_local_global
from torch import Tensor

from dadkit.ops import fused
from dadkit.ops.build_info import describe

SIZE = 560
CASES = {"hybrid": (1, 2, 4), "global": (1,), "local": (4,)}
Step = Callable[[], Tensor]


def scene(batch: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, SIZE), torch.linspace(0, 1, SIZE), indexing="ij")
    depth = torch.stack([torch.sin(3 * x + b) + y * y + 0.3 * ((4 * x).floor() + (3 * y).floor()) for b in range(batch)])
    return depth + 0.01 * torch.randn(batch, SIZE, SIZE, generator=generator)


def contenders(case: str, batch: int, compiled: bool) -> dict[str, tuple[Tensor, Step]]:
    target = scene(batch, 0)
    pred = (3 * target + 0.2 + 0.1 * torch.randn(target.shape, generator=torch.Generator().manual_seed(1))).requires_grad_()
    if case == "local-global":
        patches = torch.stack([scene(batch, 10 + n) for n in range(4)], 1)
        corners = torch.tensor([[0.0, 0.0], [209.5, 3.2], [2.7, 208.8], [210.0, 210.0]])
        boxes = torch.cat([corners, corners + 350], -1).expand(batch, 4, 4).contiguous()
        return {
            "fused": (pred, lambda: fused.local_global_loss(pred, patches, boxes, min_pixels=1)),
            "eager": (pred, lambda: eager_local_global(pred, patches, boxes, (1, 2, 4))),
        }
    segments = CASES[case]
    steps: dict[str, tuple[Tensor, Step]] = {"fused": (pred, lambda: fused.hybrid_norm_loss(pred, target, segments=segments))}
    for name, function in BASELINES.items():
        steps[name] = (pred, lambda function=function: function(pred, target, segments))
    if compiled:
        whole = torch.compile(BASELINES["nanmedian"], fullgraph=True)
        steps["compiled nanmedian"] = (pred, lambda: whole(pred, target, segments))
    return steps


def measure(case: str, batch: int, rounds: int, cold: bool, compiled: bool) -> dict[str, dict[str, list[float]]]:
    steps = contenders(case, batch, compiled)
    values = {name: step().item() for name, (_, step) in steps.items()}
    for name, value in values.items():
        if abs(value - values["fused"]) > 1e-3 * abs(value):
            raise SystemExit(f"{case}: {name} answers {value}, fused {values['fused']}: not the same loss")
    sweep = torch.zeros(80_000_000 if cold else 1)
    times: dict[str, dict[str, list[float]]] = {name: {"forward": [], "backward": []} for name in steps}
    for _ in range(rounds):
        for name, (pred, step) in steps.items():
            pred.grad = None
            sweep.add_(1)
            start = time.perf_counter()
            loss = step()
            middle = time.perf_counter()
            loss.backward()
            times[name]["forward"].append(1e3 * (middle - start))
            times[name]["backward"].append(1e3 * (time.perf_counter() - middle))
    return times


def peak_memory(case: str, batch: int, threads: int) -> float:
    """MiB above inputs and gradient of one fused forward and backward, in a process of its own."""
    code = f"import losses; losses.print_peak({case!r}, {batch}, {threads})"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_peak(case: str, batch: int, threads: int) -> None:
    torch.set_num_threads(threads)
    pred, step = contenders(case, 1, False)["fused"]  # what is loaded and allocated once
    step().backward()
    pred, step = contenders(case, batch, False)["fused"]
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else the warm-up's freed memory hides what is used
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = int(next(x for x in status.read_text().splitlines() if x.startswith("VmRSS")).split()[1])
    gradient = torch.autograd.grad(step(), pred)[0]
    peak = int(next(x for x in status.read_text().splitlines() if x.startswith("VmHWM")).split()[1])
    sys.stdout.write(str((peak - before) / 1024 - gradient.nbytes / 2**20))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 8])
    parser.add_argument("--cases", nargs="+", default=[*CASES, "local-global"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--hot", action="store_true", help="leave the caches as they are between runs")
    parser.add_argument("--compile", action="store_true", help="also torch.compile of the best vectorised version")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = []
    for case in options.cases:
        for batch in options.batch:
            times = measure(case, batch, options.rounds, not options.hot, options.compile)
            both = {
                name: statistics.median(map(sum, zip(t["forward"], t["backward"], strict=True))) for name, t in times.items()
            }
            best = min((name for name in both if name != "fused" and not name.startswith("compiled")), key=both.__getitem__)
            row = {"case": case, "batch": batch, "times_ms": times, "median_ms": both, "best_eager": best}
            row["ratio"] = both[best] / both["fused"]
            row["peak_mib"] = peak_memory(case, batch, options.threads) if sys.platform == "linux" else None
            rows.append(row)
            columns = "  ".join(f"{name} {value:.2f}" for name, value in both.items())
            sys.stdout.write(
                f"{case:13s} B={batch}  {columns} ms  x{row['ratio']:.1f} of {best}  peak {row['peak_mib']:.1f} MiB\n"
            )
            sys.stdout.flush()
    report = {
        "cold": not options.hot,
        "threads": options.threads,
        "torch": torch.__version__,
        "machine": platform.processor() or platform.machine(),
        "load": list(os.getloadavg()),
        "max_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "build": describe(),
        "rows": rows,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
