"""A training step with the losses' reference and with the fused operators, side by side.

    python benchmarks/step.py                                                   # the student of configs/from_scratch.yaml
    python benchmarks/step.py --set stages.student.contexts.options.view_size=224 …     # any of its keys changed

The engine's own step on one fixed batch, with a teacher of untrained weights: what is compared does not depend on them. Both
trainers run in one process, in turn, each first in every other round; the figure is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from dadkit.config import load_run
from dadkit.training.build import build_stage
from dadkit.training.folder import RunFolder
from dadkit.training.loop import Trainer
from dadkit.training.result import make_card
from dadkit.training.stage import Stage

FROM_SCRATCH = Path(__file__).parents[1] / "configs" / "from_scratch.yaml"
BACKENDS = ("reference", "fused")
FEW = ("stages.teacher.data.labelled.0.options.count=64", "stages.student.data.unlabelled.0.options.count=64", "data.workers=0")


def stage_of(backend: str, output: str, overrides: list[str]) -> Stage:
    """The student's stage of configs/from_scratch.yaml, its teacher with initial weights."""
    run = load_run(FROM_SCRATCH, [*FEW, f"output={output}", f"backend={backend}", *overrides])
    teacher, student = run.stages
    cpu = torch.device("cpu")
    card = make_card(run, build_stage(run, teacher, {}, cpu), {}, {}, step=0, digest="")
    return build_stage(run, student, {teacher.name: card}, cpu)


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--set", nargs="*", default=[], metavar="KEY=VALUE", help="overrides of that file")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    times: dict[str, list[float]] = {backend: [] for backend in BACKENDS}
    with tempfile.TemporaryDirectory() as scratch:
        trainers: dict[str, tuple[Trainer, Any]] = {}
        for backend in BACKENDS:
            stage = stage_of(backend, f"{scratch}/{backend}", options.set)
            with closing(stage.data.whole()) as data:
                batch = next(data.iterations(0))
            trainers[backend] = Trainer(stage, RunFolder(Path(scratch) / backend), Console(file=io.StringIO())), batch
        for index in range(options.steps + 2):
            for backend in BACKENDS if index % 2 else reversed(BACKENDS):
                trainer, batch = trainers[backend]
                begun = time.perf_counter()
                trainer._iterate(index, batch)
                times[backend].append(1e3 * (time.perf_counter() - begun))
    kept = {backend: values[2:] for backend, values in times.items()}
    report = {
        "torch": torch.__version__,
        "threads": options.threads,
        "load": round(os.getloadavg()[0], 1),
        "set": options.set,
        "median_ms": {backend: round(statistics.median(values), 1) for backend, values in kept.items()},
        "ratio": round(statistics.median(a / b for a, b in zip(kept["reference"], kept["fused"], strict=True)), 2),
        "times_ms": {backend: [round(x, 2) for x in values] for backend, values in kept.items()},
    }
    sys.stdout.write(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
