"""Time of alignment and metrics beside a plain NumPy loop that does the same; prints a table, writes JSON.

    python benchmarks/metrics.py --images 16 --rounds 5 --output metrics.json

Two contenders to compare with, both one image after the other in float64:

* ``pixels``: one Python loop over the pixels that adds up everything at once, as one would write the formulas down (timed on
  a sixteenth of an image, scaled by the number of pixels);
* ``arrays``: NumPy expressions per metric and ``numpy.linalg.lstsq`` for the alignment, as public evaluation scripts have it.

All three must agree within 1e-9 before anything is timed. In every round each contender runs once, in turn; the ratio is that
of the medians.
"""

from __future__ import annotations

import argparse
import json
import math
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from dadkit.evaluation import load_protocol
from dadkit.interfaces import Prediction
from dadkit.spaces import Space

PROTOCOL = load_protocol("affine-disparity")


def scene(images: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    depth = 1 + 9 * torch.rand(images, 1, height, width, generator=generator)
    disparity = 3 / depth + 0.05 * torch.randn(depth.shape, generator=generator) + 1
    return disparity, depth, torch.rand(depth.shape, generator=generator) > 0.1


def by_arrays(disparity: np.ndarray, depth: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    mask = valid & (depth > PROTOCOL.min_depth) & (depth < PROTOCOL.max_depth)
    x, g = disparity.astype(np.float64), depth.astype(np.float64)
    design = np.stack([x[mask], np.ones(mask.sum())], axis=1)
    (scale, shift), *_ = np.linalg.lstsq(design, 1 / g[mask], rcond=None)
    p = np.clip(1 / np.maximum(scale * x + shift, 1 / PROTOCOL.max_depth), PROTOCOL.min_depth, PROTOCOL.max_depth)

    def abs_rel(p, g):
        return np.mean(np.abs(p - g) / g)

    def sq_rel(p, g):
        return np.mean((p - g) ** 2 / g)

    def rmse(p, g):
        return np.sqrt(np.mean((p - g) ** 2))

    def rmse_log(p, g):
        return np.sqrt(np.mean((np.log(p) - np.log(g)) ** 2))

    def log10(p, g):
        return np.mean(np.abs(np.log10(p) - np.log10(g)))

    def delta(p, g, k):
        return np.mean(np.maximum(p / g, g / p) < 1.25**k)

    functions = {"abs_rel": abs_rel, "sq_rel": sq_rel, "rmse": rmse, "rmse_log": rmse_log, "log10": log10}
    found = {name: float(function(p[mask], g[mask])) for name, function in functions.items()}
    return found | {f"delta{k}": float(delta(p[mask], g[mask], k)) for k in (1, 2, 3)}


def by_pixels(disparity: np.ndarray, depth: np.ndarray, valid: np.ndarray) -> dict[str, float]:
    low, high = PROTOCOL.min_depth, PROTOCOL.max_depth
    pairs = [
        (float(x), float(g)) for x, g, v in zip(disparity.flat, depth.flat, valid.flat, strict=True) if v and low < g < high
    ]
    n = len(pairs)
    sx = sum(x for x, _ in pairs) / n
    sy = sum(1 / g for _, g in pairs) / n
    sxx = sum((x - sx) ** 2 for x, _ in pairs)
    sxy = sum((x - sx) * (1 / g - sy) for x, g in pairs)
    scale = sxy / sxx
    shift = sy - scale * sx
    sums = dict.fromkeys(PROTOCOL.metrics, 0.0)
    for x, g in pairs:
        p = min(max(1 / max(scale * x + shift, 1 / high), low), high)
        sums["abs_rel"] += abs(p - g) / g
        sums["sq_rel"] += (p - g) ** 2 / g
        sums["rmse"] += (p - g) ** 2
        sums["rmse_log"] += (math.log(p) - math.log(g)) ** 2
        sums["log10"] += abs(math.log10(p) - math.log10(g))
        for k in (1, 2, 3):
            sums[f"delta{k}"] += max(p / g, g / p) < 1.25**k
    means = {name: total / n for name, total in sums.items()}
    return means | {"rmse": math.sqrt(means["rmse"]), "rmse_log": math.sqrt(means["rmse_log"])}


def timed(function) -> float:
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--height", type=int, default=480)
    parser.add_argument("--width", type=int, default=640)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    disparity, depth, valid = scene(arguments.images, arguments.height, arguments.width)
    arrays = [tuple(x[i, 0].numpy() for x in (disparity, depth, valid)) for i in range(arguments.images)]
    small = tuple(x[:120, :160] for x in arrays[0])

    def ours() -> dict[str, torch.Tensor]:
        return PROTOCOL.score(Prediction(disparity, Space.DISPARITY), depth, valid).metrics

    found, expected = ours(), [by_arrays(*x) for x in arrays]
    for name in PROTOCOL.metrics:
        np.testing.assert_allclose(found[name].numpy(), [e[name] for e in expected], rtol=1e-9)
    np.testing.assert_allclose(list(by_pixels(*small).values()), list(by_arrays(*small).values()), rtol=1e-9)
    times: dict[str, list[float]] = {"dadkit": [], "arrays": [], "pixels": []}
    share = small[0].size / arrays[0][0].size
    for _ in range(arguments.rounds):
        times["dadkit"].append(timed(ours) / arguments.images)
        times["arrays"].append(timed(lambda: [by_arrays(*x) for x in arrays]) / arguments.images)
        times["pixels"].append(timed(lambda: by_pixels(*small)) / share)
    medians = {name: statistics.median(values) for name, values in times.items()}
    shape = f"{arguments.height} x {arguments.width}"
    print(f"{arguments.images} images of {shape}, {arguments.threads} thread(s), torch {torch.__version__}")
    for name, seconds in medians.items():
        print(f"{name:8} {1000 * seconds:9.2f} ms an image   {seconds / medians['dadkit']:8.1f} times dadkit's")
    if arguments.output:
        about = {
            "machine": platform.machine(),
            "torch": torch.__version__,
            "arguments": {k: str(v) for k, v in vars(arguments).items()},
        }
        arguments.output.write_text(json.dumps({**about, "seconds_an_image": times}, indent=2) + "\n")


if __name__ == "__main__":
    main()
