"""What `channels_last` of a network gains on a CPU: python benchmarks/layout.py [MODEL …] [--size 192] [--rounds 5]

A training step (forward, backward) and a forward pass of each model with random weights, once as models come and once with
``channels_last`` switched off, in turn. The ratio of each turn is taken, and the median shown: above 1, the layout is faster.
Weights lie as they come; `dadkit train` lays them out too, which alone brings the same kernels.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time

import torch

import dadkit
from dadkit.interfaces import Student

MODELS = ("midas/tiny-conv", "starter/small", "topformer/tiny", "zipdepth/small", "tcmono/small", "timm/mobilenetv4-conv-small")


def main() -> None:
    """Prints a line for each model."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--size", type=int, default=192)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    print(f"{torch.get_num_threads()} threads, load before {os.getloadavg()[0]:.1f}; {options.batch} x {options.size} px")
    images = torch.rand(options.batch, 3, options.size, options.size, generator=torch.Generator().manual_seed(0))
    for name in options.models:
        model = dadkit.load_student(name, weights="none")
        step, passed = (ratio(model, images, trains, options.rounds) for trains in (True, False))
        print(f"{name:30} training step x{step:.2f}   forward pass x{passed:.2f}", flush=True)


def ratio(model: Student, images: torch.Tensor, trains: bool, rounds: int) -> float:
    """Time without the layout to time with it, the median of the rounds."""
    model.train(trains)
    seconds(model, images, trains, True)
    seconds(model, images, trains, False)
    turns = [[seconds(model, images, trains, layout) for layout in (False, True)] for _ in range(rounds)]
    return statistics.median(without / having for without, having in turns)


def seconds(model: Student, images: torch.Tensor, trains: bool, layout: bool) -> float:
    """Of one step or pass."""
    model.channels_last = layout
    model.zero_grad()
    begun = time.perf_counter()
    with torch.set_grad_enabled(trains):
        depth = model(images).depth
    if trains:
        depth.mean().backward()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
