"""Time and memory of the fused losses beside plain PyTorch, paired in one process; JSON, and a table for docs/kernels.md.

    python benchmarks/losses.py --output benchmarks/results/losses.json --docs   # everything: 15 minutes on two quiet cores
    python benchmarks/losses.py --quick                                          # a minute
    python benchmarks/losses.py --device cuda --output …                         # on a GPU, also in CUDA graphs

How it is measured: README.md. Data: piecewise smooth 560 x 560 maps with noise, seed 0.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from eager_losses import BASELINES, eager_gradient_matching, eager_local_global
from table import write_docs
from timing import Contender, graphed_times, measure, ratio
from torch import Tensor

from dadkit.ops import fused
from dadkit.ops.build_info import describe
from dadkit.ops.reference import NormOptions

SIZE = 560
CASES: dict[str, tuple[int, ...]] = {"hybrid": (1, 2, 4), "global": (1,), "local": (4,)}
OTHERS = ("local-global", "gradient-matching")
ROUNDS = {1: 15, 2: 11, 8: 7, 32: 3}
BYTES_PER_SECOND = 4.3e12
"""Of an H200's memory, for the floor that its times are compared with."""


def scene(batch: int, seed: int, device: str = "cpu") -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.linspace(0, 1, SIZE), torch.linspace(0, 1, SIZE), indexing="ij")
    depth = torch.stack([torch.sin(3 * x + b) + y * y + 0.3 * ((4 * x).floor() + (3 * y).floor()) for b in range(batch)])
    return (depth + 0.01 * torch.randn(batch, SIZE, SIZE, generator=generator)).to(device)


def contenders(
    case: str, batch: int, *, compiled: bool = False, isas: tuple[str, ...] = (), device: str = "cpu"
) -> dict[str, Contender]:
    """All ways to compute a case, "fused" first."""
    target = scene(batch, 0, device)
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(1)).to(device)
    pred = (3 * target + 0.2 + 0.1 * noise).requires_grad_()
    if case == "local-global":
        patches = torch.stack([scene(batch, 10 + n, device) for n in range(4)], 1)
        corners = torch.tensor([[0.0, 0.0], [209.5, 3.2], [2.7, 208.8], [210.0, 210.0]], device=device)
        boxes = torch.cat([corners, corners + 350], -1).expand(batch, 4, 4).contiguous()
        best = {"loop": lambda: eager_local_global(pred, patches, boxes, (1, 2, 4))}
        own = lambda: fused.local_global_loss(pred, patches, boxes, None, NormOptions(min_pixels=1))  # noqa: E731
    elif case == "gradient-matching":
        best = {"eager": lambda: eager_gradient_matching(pred, target)}
        own = lambda: fused.gradient_matching_loss(pred, target)  # noqa: E731
        if compiled:
            whole = torch.compile(eager_gradient_matching, fullgraph=True)
            best["compiled"] = lambda: whole(pred, target)
    else:
        segments = CASES[case]
        best = {name: (lambda f=f: f(pred, target, segments)) for name, f in BASELINES.items()}
        own = lambda: fused.hybrid_norm_loss(pred, target, None, NormOptions(segments))  # noqa: E731
        if compiled:
            whole = torch.compile(BASELINES["nanmedian"], fullgraph=True)
            best["compiled nanmedian"] = lambda: whole(pred, target, segments)
    steps = {"fused": Contender(own, pred)}
    steps |= {f"fused, {isa}": Contender(own, pred, isa) for isa in isas}
    return steps | {name: Contender(step, pred) for name, step in best.items()}


def row_of(case: str, batch: int, rounds: int, cold: bool, options: argparse.Namespace) -> dict[str, Any]:
    steps = contenders(case, batch, compiled=options.compile and batch == 8, isas=options.isas, device=options.device)
    values = {name: contender.value() for name, contender in steps.items()}
    for name, value in values.items():
        if abs(value - values["fused"]) > 1e-3 * abs(value):
            raise SystemExit(f"{case}: {name} answers {value}, fused {values['fused']}: not the same loss")
    measure(steps, rounds, cold)
    eager = [name for name in steps if not name.startswith(("fused", "compiled"))]
    best = min(eager, key=lambda name: steps[name].median())
    row: dict[str, Any] = {"case": case, "batch": batch, "cold": cold, "load": os.getloadavg()[0], "best_eager": best}
    row["median_ms"] = {name: {part: c.median(part) for part in c.times} for name, c in steps.items()}
    row["ratio"] = {part: ratio(steps[best], steps["fused"], part) for part in ("forward", "backward", "both")}
    row["ratio_isa"] = {isa: ratio(steps[best], steps[f"fused, {isa}"]) for isa in options.isas}
    row["ratio_compiled"] = {name: ratio(c, steps["fused"]) for name, c in steps.items() if name.startswith("compiled")}
    row["times_ms"] = {name: c.times for name, c in steps.items()}
    if options.device == "cuda":
        row |= on_gpu(steps, batch, case)
    return row


def on_gpu(steps: dict[str, Contender], batch: int, case: str) -> dict[str, Any]:
    """Times in CUDA graphs, memory, and the least time in which the maps can be read and the gradient written."""
    graphed, refused = {}, {}
    for name, contender in steps.items():
        if name == "loop" or name.startswith("compiled"):  # boolean masks wait for the device: no graph holds them
            continue
        try:
            graphed[name] = graphed_times(contender, 50)
        except RuntimeError as error:
            if name == "fused":
                raise
            refused[name] = str(error).partition("\n")[0]
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    gradient = torch.autograd.grad(steps["fused"].step(), steps["fused"].pred)[0]
    peak = torch.cuda.max_memory_allocated() - before - gradient.nbytes
    maps = batch * SIZE * SIZE * 4
    floor = 1e6 * (5 * maps if case == "local-global" else 2 * maps) / BYTES_PER_SECOND + 1e6 * maps / BYTES_PER_SECOND
    return {"graphed_us": graphed, "not_graphed": refused, "byte_floor_us": floor, "peak_mib": peak / 2**20}


def peak_memory(case: str, batch: int, threads: int) -> float:
    """MiB above inputs and gradient of one fused forward and backward, in a process of its own."""
    code = f"import losses; losses.print_peak({case!r}, {batch}, {threads})"
    done = subprocess.run([sys.executable, "-c", code], cwd=Path(__file__).parent, capture_output=True, text=True, check=True)
    return float(done.stdout)


def print_peak(case: str, batch: int, threads: int) -> None:
    torch.set_num_threads(threads)
    step = contenders(case, 1)["fused"]  # what is loaded and allocated once
    step.step().backward()
    step = contenders(case, batch)["fused"]
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # else the warm-up's freed memory hides what is used
    status = Path("/proc/self/status")
    Path("/proc/self/clear_refs").write_text("5")  # resets the peak
    before = int(next(x for x in status.read_text().splitlines() if x.startswith("VmRSS")).split()[1])
    gradient = torch.autograd.grad(step.step(), step.pred)[0]
    peak = int(next(x for x in status.read_text().splitlines() if x.startswith("VmHWM")).split()[1])
    sys.stdout.write(str((peak - before) / 1024 - gradient.nbytes / 2**20))


def metadata(options: argparse.Namespace) -> dict[str, Any]:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        processor = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        processor = platform.processor() or platform.machine()
    device = torch.cuda.get_device_name() if options.device == "cuda" else processor
    return {
        "device": device,
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": options.threads,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load_before": list(os.getloadavg()),
        "size": SIZE,
        "rounds": ROUNDS if options.rounds is None else options.rounds,
        "build": describe(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 2, 8, 32])
    parser.add_argument("--cases", nargs="+", default=[*CASES, *OTHERS], choices=[*CASES, *OTHERS])
    parser.add_argument("--rounds", type=int, help="of every case; default: 15 of batch 1 to 3 of batch 32")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--caches", choices=["cold", "hot", "both"], default="both")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile of the baseline out")
    parser.add_argument(
        "--isas", nargs="*", default=["avx2", "plain"], help="also hold the operators to these instruction sets"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--quick", action="store_true", help="batch 2, cold, three rounds, nothing compiled")
    parser.add_argument("--output", type=Path)
    parser.add_argument("--docs", action="store_true", help="write the table into docs/kernels.md")
    options = parser.parse_args()
    if options.quick:
        options.batch, options.rounds, options.caches, options.compile = [2], options.rounds or 3, "cold", False
    in_use = describe().get("instruction sets", "").rpartition("in use: ")[2]
    options.isas = () if options.device == "cuda" else tuple(i for i in options.isas if not in_use.startswith(i))
    torch.set_num_threads(options.threads)
    report = metadata(options) | {"rows": []}
    for case in options.cases:
        for batch in options.batch:
            rounds = options.rounds or ROUNDS.get(batch, 3)
            for cold in {"cold": [True], "hot": [False], "both": [True, False]}[options.caches]:
                row = row_of(case, batch, rounds, cold, options)
                if cold and options.device == "cpu" and sys.platform == "linux":
                    row["peak_mib"] = peak_memory(case, batch, options.threads)
                report["rows"].append(row)
                print_row(row)
                if options.output:  # after every row: a run that is stopped keeps what it has
                    report["load_after"] = list(os.getloadavg())
                    options.output.write_text(json.dumps(report, indent=1) + "\n")
    if options.docs:
        write_docs(report)


def print_row(row: dict[str, Any]) -> None:
    columns = "  ".join(f"{name} {parts['both']:.2f}" for name, parts in row["median_ms"].items())
    isas = "".join(f"  {name} x{value:.1f}" for name, value in (row["ratio_isa"] | row["ratio_compiled"]).items())
    peak = f"  peak {row['peak_mib']:.1f} MiB" if "peak_mib" in row else ""
    caches = "cold" if row["cold"] else "hot"
    best = f"x{row['ratio']['both']:.1f} of {row['best_eager']}"
    sys.stdout.write(
        f"{row['case']:17s} B={row['batch']:<2d} {caches:4s} {columns} ms  {best}{isas}{peak}  load {row['load']:.1f}\n"
    )
    for name, times in row.get("graphed_us", {}).items():
        sys.stdout.write(
            f"    {name}, graphed: {sorted(times)[len(times) // 2]:.1f} us; byte floor {row['byte_floor_us']:.1f} us\n"
        )
    sys.stdout.flush()


if __name__ == "__main__":
    main()
