"""Exported students beside eager torch: one thread, one image, in turns, so that other work disturbs all alike.

    python benchmarks/deploy.py                              # TopFormer, MiDaS small, Depth Anything V2 small
    python benchmarks/deploy.py starter/small --size 192     # other models

Prints for each model the least and the median milliseconds of torch and of onnxruntime, and their ratio. The files are fixed at
the size, as for a device. Weights are random where a model brings none; they do not change the work.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

import torch

from dadkit.export import export_model
from dadkit.interfaces import DepthModel, nearest_multiple
from dadkit.loading import load_model, load_student

BARS = {"topformer/tiny": 2.0, "midas/v21-small-256": 2.0, "dav2/small": 1.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=list(BARS))
    parser.add_argument("--size", type=int, default=256, help="side of the square image; the nearest legal one is taken")
    parser.add_argument("--rounds", type=int, default=12)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"{'model':24} {'size':>5} {'torch ms: least':>15} {'median':>7} {'file ms: least':>15} {'median':>7} {'ratio':>6} bar"
    )
    for name in arguments.models:
        torch.manual_seed(0)
        model = (load_model(name) if name.startswith("starter/") else load_student(name)).eval()
        side = nearest_multiple(arguments.size, model.spec.size_multiple)
        image = torch.rand(1, 3, side, side)
        with tempfile.TemporaryDirectory() as folder:
            file = export_model(model, Path(folder) / "file.onnx", size=(side, side), check=False).files[0]
            calls: dict[str, DepthModel] = {"torch": model, "file": load_model(file)}
            times: dict[str, list[float]] = {key: [] for key in calls}
            with torch.no_grad():
                for call in calls.values():
                    for _ in range(3):
                        call(image)
                for _ in range(arguments.rounds):
                    for key, call in calls.items():
                        begun = time.perf_counter()
                        call(image)
                        times[key].append(1e3 * (time.perf_counter() - begun))
        least, median = ({key: f(values) for key, values in times.items()} for f in (min, statistics.median))
        ratio, bar = least["torch"] / least["file"], BARS.get(name)
        verdict = "" if bar is None else f"{bar:.1f} {'met' if ratio >= bar else 'missed'}"
        print(
            f"{name:24} {side:5} {least['torch']:15.1f} {median['torch']:15.1f} {least['file']:15.1f} {median['file']:15.1f} "
            f"{ratio:15.2f} {verdict}",
            flush=True,
        )


if __name__ == "__main__":
    main()
