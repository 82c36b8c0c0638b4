"""What waiting threads cost: images a second with several settings, on quiet cores and beside one busy process, side by side.

    python benchmarks/threads.py [--cores 2] [--rounds 3] [--seconds 2]

Each measurement is a process of its own, since OpenMP reads its settings when torch loads. All run on the same cores; in every
round each setting runs once on quiet cores and once beside a process that never waits. The best of the rounds is shown, as a
share of the first setting on quiet cores. Cases: a training step of a small student (64 px, batch 8, what the quickstart
trains), of ``midas/tiny-conv`` (192 px, batch 8), and the fused loss of one image of 560 x 560.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

CASES = ("student 64", "tiny-conv 192", "fused loss")
SETTINGS = {
    "default": {},
    "spin 1000": {"GOMP_SPINCOUNT": "1000"},
    "spin 10000": {"GOMP_SPINCOUNT": "10000"},
    "spin 30000": {"GOMP_SPINCOUNT": "30000"},
    "passive": {"OMP_WAIT_POLICY": "PASSIVE"},
    "one thread": {"OMP_NUM_THREADS": "1"},
}


def main() -> None:
    """Prints a table for each case."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(work(options.case, options.seconds))
        return
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    best: dict[tuple[str, str, bool], float] = {}
    for _ in range(options.rounds):
        for case in CASES:
            for loaded in (False, True):
                for name in SETTINGS:
                    key = case, name, loaded
                    best[key] = max(best.get(key, 0.0), measured(case, name, loaded, options))
    for case in CASES:
        quiet = best[case, "default", False]
        print(f"{case}: {quiet:.1f} images/s by default on quiet cores\n{'':14}   quiet   beside a busy process")
        for name in SETTINGS:
            print(f"{name:14} {best[case, name, False] / quiet:7.2f} {best[case, name, True] / quiet:7.2f}")


def measured(case: str, name: str, loaded: bool, options: argparse.Namespace) -> float:
    """Returns images a second of one case under one setting, in a process of its own."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("OMP_", "GOMP_", "MKL_"))}
    environment = clean | {"OMP_NUM_THREADS": str(options.cores), "CUDA_VISIBLE_DEVICES": ""} | SETTINGS[name]
    busy = subprocess.Popen([sys.executable, "-c", "while True: pass"]) if loaded else None
    try:
        command = [sys.executable, __file__, "--case", case, "--seconds", str(options.seconds)]
        return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()[-1])
    finally:
        if busy is not None:
            busy.kill()


def work(case: str, seconds: float) -> float:
    """Returns images a second."""
    import torch

    import dadkit
    from dadkit.losses import hybrid_norm_loss

    generator = torch.Generator().manual_seed(0)
    if case == "fused loss":
        target = torch.randn(1, 1, 560, 560, generator=generator)
        pred = (target + 0.3 * torch.randn(target.shape, generator=generator)).requires_grad_()
        batch = 1

        def step() -> None:
            torch.autograd.grad(hybrid_norm_loss(pred, target, backend="fused"), pred)
    else:
        side, name = (64, "topformer/tiny") if case == "student 64" else (192, "midas/tiny-conv")
        batch, x = 8, torch.rand(8, 3, side, side, generator=generator)
        model = dadkit.load_student(name, weights="none").train()

        def step() -> None:
            model.zero_grad()
            model(x).depth.mean().backward()

    for _ in range(2):
        step()
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds:
        step()
        count += batch
    return count / (time.perf_counter() - begin)


if __name__ == "__main__":
    main()
