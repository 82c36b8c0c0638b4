"""What waiting threads cost: images a second with several settings, on quiet cores and beside one busy process, side by side.

    python benchmarks/threads.py [--cores 2] [--rounds 5] [--seconds 1.5] [--case quickstart]

A process for each setting, since OpenMP reads its settings when torch loads; it stays, and computes only when it is asked to.
All share the same cores. In every round each setting runs once on quiet cores and once beside a process that never waits, in
turn, and is compared with the first setting on quiet cores *of the same round*. The median of these ratios is shown, so that
other programs on the machine weigh on all settings alike. Cases: the quickstart as `dadkit train` runs it, its loader beside
it; a training step of ``midas/tiny-conv`` (192 px, batch 8); the fused loss of one image of 560 x 560.

Each measurement is preceded by two seconds of the same, in which `dadkit.threads.yielding` finds out whether cores are shared.

The bars: beside the busy process ``dadkit`` keeps at least 0.5 of quiet, on quiet cores at least 0.97 of ``default``.
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

CASES = ("quickstart", "tiny-conv 192", "fused loss")
_KEPT = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(2**30)}  # what dadkit.threads.keep_memory asks of glibc
SETTINGS = {
    "default": {"GOMP_SPINCOUNT": "300000"},  # libgomp's own, where no process has more threads than cores
    "dadkit": {"GOMP_SPINCOUNT": "1000"} | _KEPT,
    "memory not kept": {"GOMP_SPINCOUNT": "1000"},
    "spin 1001": {"GOMP_SPINCOUNT": "1001"} | _KEPT,  # as dadkit, but the same beside other processes
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"} | _KEPT,
    "one thread": {"OMP_NUM_THREADS": "1"} | _KEPT,
}

_ENOUGH = 70.0  # seconds after which no further round of a case is begun


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5)
    parser.add_argument("--case", choices=CASES, action="append")
    parser.add_argument("--settings", default="default,dadkit,one thread")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.work)
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    print(f"load before: {os.getloadavg()[0]:.1f}")
    for case in options.case or CASES:
        compare(case, options.settings.split(","), options)


def compare(case: str, settings: list[str], options: argparse.Namespace) -> None:
    """Measures and prints one case."""
    begun, workers = time.perf_counter(), {name: start(case, name, options.cores) for name in settings}
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    found: dict[tuple[str, bool], list[float]] = {(name, loaded): [] for name in settings for loaded in (False, True)}
    try:
        busy.send_signal(signal.SIGSTOP)
        for name in settings:
            ask(workers[name], 0.2)
        for number in range(options.rounds):
            if number and time.perf_counter() - begun > _ENOUGH:
                break
            for loaded in (False, True):
                busy.send_signal(signal.SIGCONT if loaded else signal.SIGSTOP)
                for name in settings:
                    found[name, loaded].append(ask(workers[name], options.seconds))
            busy.send_signal(signal.SIGSTOP)
    finally:
        for process in (busy, *workers.values()):
            process.kill()
    first = found[settings[0], False]
    print(f"{case}: {max(first):.1f} images/s by {settings[0]} on quiet cores; {time.perf_counter() - begun:.0f} s")
    print(f"{'':17}  quiet   busy   busy/its own quiet   (medians of {len(first)} rounds)")
    for name in settings:
        quiet, loaded = (
            statistics.median(x / y for x, y in zip(found[name, is_busy], first, strict=True)) for is_busy in (False, True)
        )
        own = statistics.median(x / y for x, y in zip(found[name, True], found[name, False], strict=True))
        print(f"{name:17} {quiet:6.2f} {loaded:6.2f} {own:12.2f}", flush=True)


def start(case: str, name: str, cores: int) -> subprocess.Popen[str]:
    """A process that measures one case under one setting, each time it reads a line."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "MKL_"))}
    environment = clean | {"OMP_NUM_THREADS": str(cores), "CUDA_VISIBLE_DEVICES": ""} | SETTINGS[name]
    command = [sys.executable, __file__, "--work", case]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def ask(process: subprocess.Popen[str], seconds: float) -> float:
    """Images a second over so many seconds."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{seconds}\n")
    process.stdin.flush()
    return float(process.stdout.readline())


def work(case: str) -> None:
    """Answers each number of seconds that is read with images a second."""
    from dadkit.threads import yielding

    steps = quickstart() if case == "quickstart" else computed(case)
    next(steps)
    with nullcontext() if case == "quickstart" else yielding():  # `dadkit train` has its own
        for line in sys.stdin:
            for seconds in (2.0, float(line)):
                begun, count = time.perf_counter(), 0
                while (passed := time.perf_counter() - begun) < seconds:
                    count += next(steps)
            print(count / passed, flush=True)


def computed(case: str) -> Iterator[int]:
    """Steps without training around them; yields how many images each took."""
    import torch

    import dadkit
    from dadkit.losses import hybrid_norm_loss

    generator = torch.Generator().manual_seed(0)
    if case == "fused loss":
        target = torch.randn(1, 1, 560, 560, generator=generator)
        pred = (target + 0.3 * torch.randn(target.shape, generator=generator)).requires_grad_()
        while True:
            torch.autograd.grad(hybrid_norm_loss(pred, target, backend="fused"), pred)
            yield 1
    x = torch.rand(8, 3, 192, 192, generator=generator)
    model = dadkit.load_student("midas/tiny-conv", weights="none").train()
    model.to(memory_format=torch.channels_last)  # as `dadkit train` has it
    while True:
        model.zero_grad()
        model(x).depth.mean().backward()
        yield len(x)


def quickstart() -> Iterator[int]:
    """The steps of ``configs/quickstart.yaml`` with its loader; yields how many images each took."""
    import threading
    from queue import Queue

    from rich.console import Console

    from dadkit.config import load_run
    from dadkit.training import Hook, train

    go: Queue[None] = Queue()
    done: Queue[int] = Queue()

    class Gate(Hook):
        """Lets one iteration pass for each ``go``."""

        def on_step(self, trainer: object, index: int) -> None:
            done.put(8)
            go.get()

    folder = tempfile.mkdtemp()
    file = Path(__file__).parents[1] / "configs" / "quickstart.yaml"
    run = load_run(file, [f"output={folder}", "stages.student.iterations=100000", "evaluation=null", "sample_every=100000"])
    threading.Thread(target=train, args=(run,), kwargs={"console": Console(quiet=True), "hooks": [Gate()]}, daemon=True).start()
    while True:
        count = done.get()
        yield count
        go.put(None)


if __name__ == "__main__":
    main()
