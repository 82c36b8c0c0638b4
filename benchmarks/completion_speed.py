"""Metres from sparse points beside the model whose map they complete: python benchmarks/completion_speed.py [--threads 2]

A picture of 640 x 480 pixels and 500 points. Stage one (`predict` of a model, resizing included), `align` with each way of
spreading residuals, and `refine` as `configs/completion.yaml` sizes it take turns. Printed are the fastest round, the median,
and the least time of a processor that a round took, in milliseconds. On a machine that does other work the last counts, with
`--threads 1`: threads that wait for each other use it up.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from typing import get_args

import torch

import dadkit
from dadkit.alignment import Local
from dadkit.config import load_run
from dadkit.data.patterns import simulate
from dadkit.loading import load_completer

SIZE = (480, 640)


@torch.inference_mode()
def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="starter/small")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--points", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=30)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    draw = torch.Generator().manual_seed(0)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
    depth = 6 - 4 * rows + torch.where((columns > 0.3) & (rows < 0.5), -1.5, 0.0)
    image = (torch.stack((1 / depth, rows, columns)).clamp(0, 1) + 0.05 * torch.rand(3, *SIZE, generator=draw)).clamp(0, 1)
    hints = simulate(depth, depth > 0, image, pattern="uniform", points=given.points, generator=draw, noise=0.01, outliers=0.02)
    model = dadkit.load_teacher(given.model)
    student = load_run("configs/completion.yaml").stages[0].student
    assert student is not None
    assert student.name is not None
    relative = model.predict(image)
    completers = {f"align:local={local}": load_completer("align", local=local) for local in get_args(Local)}
    second = {"second": "starter/small", "second_options": {"native_size": 192}}
    completers["kriging with the second opinion of starter/small at 192"] = load_completer("align", local="kriging", **second)
    completers["refine as in configs/completion.yaml"] = load_completer(student.name, **student.options)
    calls: dict[str, Callable[[], object]] = {f"stage one, {given.model}": lambda: model.predict(image)}
    for name, completer in completers.items():
        calls[name] = lambda completer=completer: completer.complete(image[None], hints, relative)  # type: ignore[misc]
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in calls}
    for turn in range(given.rounds + 2):
        for name, call in calls.items():
            begun, before = time.perf_counter(), time.process_time()
            call()
            if turn >= 2:  # the first turns are not counted
                times[name].append((1e3 * (time.perf_counter() - begun), 1e3 * (time.process_time() - before)))
    print(f"{SIZE[1]} x {SIZE[0]}, {given.points} points, {given.threads} threads, {given.rounds} rounds")
    for name, values in times.items():
        wall, used = zip(*values, strict=True)
        told = f"fastest {min(wall):6.1f} ms   median {statistics.median(wall):6.1f} ms   processor {min(used):6.1f} ms"
        print(f"{name:40} {told}")


if __name__ == "__main__":
    main()
