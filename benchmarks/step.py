"""A training step with the losses' reference and with the fused operators, side by side.

    python benchmarks/step.py                                                   # the student of configs/from_scratch.yaml
    python benchmarks/step.py --set stages.student.contexts.options.view_size=224 …     # any of its keys changed

The engine's own step on one fixed batch, with a teacher of hardly trained weights: what is compared does not depend on them.
A hook times it. Both backends take turns in one process, each first in every other round; the figure is the ratio of medians.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dadkit.config import load_run
from dadkit.training import Hook, train

FROM_SCRATCH = Path(__file__).parents[1] / "configs" / "from_scratch.yaml"
BACKENDS = ("reference", "fused")
ROUNDS = 6
"""The backends take turns so often."""
FEW = (
    "stages.teacher.iterations=1",
    "stages.teacher.data.labelled.0.options.count=64",
    "stages.student.data.unlabelled.0.options.count=64",
    "data.workers=0",
)


class MeasuredError(Exception):
    """The measurement is over, and the rest of the run is not needed."""


class Clock(Hook):
    """Times optimiser steps of the student's stage on one batch, two of them unmeasured."""

    def __init__(self, steps: int) -> None:
        self.steps, self.times = steps, list[float]()

    def on_stage_start(self, trainer: Any) -> None:
        """Measure, and end the run."""
        if trainer.stage.name != "student":
            return
        with closing(trainer.stage.data.whole()) as data:
            batch = next(data.iterations(0))
        for index in range(self.steps + 2):
            begun = time.perf_counter()
            trainer.iterate(index, batch)
            self.times.append(1e3 * (time.perf_counter() - begun))
        self.times = self.times[2:]
        raise MeasuredError


def step_times(backend: str, output: str, steps: int, overrides: list[str]) -> list[float]:
    """Milliseconds of the student's steps of configs/from_scratch.yaml; its teacher is trained for one, in the first call."""
    run = load_run(FROM_SCRATCH, [*FEW, f"output={output}", f"backend={backend}", *overrides])
    clock = Clock(steps)
    with suppress(MeasuredError):
        train(run, console=Console(quiet=True), hooks=[clock])
    return clock.times


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of that file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    kept: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(ROUNDS):
            for backend in BACKENDS if number % 2 else reversed(BACKENDS):
                kept[backend] += step_times(backend, f"{scratch}/{backend}", -(-options.steps // ROUNDS), options.set)
    report = {
        "torch": torch.__version__,
        "threads": options.threads,
        "load": round(os.getloadavg()[0], 1),
        "set": options.set,
        "median_ms": {backend: round(statistics.median(values), 1) for backend, values in kept.items()},
        "ratio": round(statistics.median(kept["reference"]) / statistics.median(kept["fused"]), 2),
        "times_ms": {backend: [round(x, 2) for x in values] for backend, values in kept.items()},
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
