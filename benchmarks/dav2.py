"""Depth Anything V2 small beside transformers', on the CPU in fp32, same random weights, paired; JSON and a table.

    OMP_NUM_THREADS=2 python benchmarks/dav2.py --rounds 7 --threads 2 --output dav2.json

Contenders: `dadkit` in channels-last, as training runs it, and contiguous; transformers' DepthAnything as it comes, and in
channels-last. Method, see README.md: in every round each runs once, in turn; before anything is timed, all must answer
the same map. The ratio is that of the medians, against the better of the two others.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor

import dadkit
from dadkit.interfaces import Teacher

Run = Callable[[], Tensor]


def contenders(size: str, height: int, width: int, batch: int) -> dict[str, Run]:
    torch.manual_seed(0)
    model = dadkit.load_teacher(f"dav2/{size}", weights="none", pos_embed="hf")
    for parameter in model.parameters():  # nothing dead, nothing constant: the answers are compared
        if parameter.ndim == 1:
            parameter.data.add_(0.2 * torch.randn_like(parameter))
    theirs = as_transformers(model)
    last = dadkit.load_teacher(f"dav2/{size}", weights="none", pos_embed="hf")
    last.load_state_dict(model.state_dict())
    theirs_last = as_transformers(model).to(memory_format=torch.channels_last)
    last.to(memory_format=torch.channels_last)
    images = torch.rand(batch, 3, height, width)
    inputs = model.normalized(images)
    channels_last = images.contiguous(memory_format=torch.channels_last)
    inputs_last = inputs.contiguous(memory_format=torch.channels_last)
    return {
        "dadkit": lambda: last(channels_last).depth[:, 0],
        "dadkit contiguous": lambda: model(images).depth[:, 0],
        "transformers": lambda: theirs(inputs).predicted_depth,
        "transformers channels-last": lambda: theirs_last(inputs_last).predicted_depth,
    }


def as_transformers(model: Teacher) -> torch.nn.Module:
    """The same weights in transformers, by dadkit's own conversion."""
    export = model.model.export("hf")  # type: ignore[attr-defined]
    with tempfile.TemporaryDirectory() as folder:
        for name, text in export.files.items():
            Path(folder, name).write_text(text)
        tensors = {name: tensor.contiguous().clone() for name, tensor in export.tensors.items()}
        save_file(tensors, Path(folder, "model.safetensors"), {"format": "pt"})
        theirs = transformers.AutoModelForDepthEstimation.from_pretrained(folder)
    return theirs.eval()


def measure(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    answers = {name: run() for name, run in runs.items()}  # warms up, too
    expected = answers["transformers"]
    for name, answer in answers.items():
        worst = ((answer - expected).abs().max() / expected.abs().max()).item()
        if worst > 1e-4 or expected.std() < 1e-3:
            raise SystemExit(f"{name} differs from transformers by {worst:.1e}: not the same function")
    times: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            times[name].append(time.perf_counter() - start)
    return times


def machine(threads: int) -> dict[str, object]:
    return {
        "platform": platform.platform(),
        "processors": os.cpu_count(),
        "threads": threads,
        "load": os.getloadavg(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "isa": torch.backends.cpu.get_cpu_capability(),
    }


@torch.inference_mode()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="small", help="size of the family")
    parser.add_argument("--sizes", default="518x518,518x686", help="input sizes, HxW")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, help="JSON with every single time")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for text in options.sizes.split(","):
        height, width = map(int, text.split("x"))
        before = machine(options.threads)
        times = measure(contenders(options.size, height, width, options.batch), options.rounds)
        medians = {name: statistics.median(values) for name, values in times.items()}
        rival = min(value for name, value in medians.items() if name.startswith("transformers"))
        print(f"\ndav2/{options.size}, {options.batch} x {height} x {width}, fp32, {options.threads} threads")
        for name, values in times.items():
            low, _, high = statistics.quantiles(values, n=4)
            print(f"  {name:28s} {medians[name]:7.3f} s  [{low:.3f}, {high:.3f}]  {rival / medians[name]:5.2f} x")
        results.append({"input": [options.batch, 3, height, width], "machine": before, "seconds": times, "median": medians})
    if options.output:
        options.output.write_text(json.dumps({"model": f"dav2/{options.size}", "cases": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
