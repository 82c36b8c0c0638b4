"""`dadkit predict` against a plain loop on the same photographs: python benchmarks/predict.py [FOLDER] [--runs 3]

The plain loop decodes, predicts, colours in float64 and lets Pillow write its PNGs, one image after the other. Without FOLDER,
18 pictures of 1 to 12 megapixels are made. The two take turns; the ratio of each turn is printed, and the median.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image

import dadkit
from dadkit import pictures
from dadkit.data.images import decode
from dadkit.prediction import find_inputs, predict_files


def make(folder: Path, count: int = 18) -> None:
    """Pictures with edges, gradients and noise, 1 to 12 megapixels."""
    for index, size in enumerate(np.linspace(1e6, 12e6, count)):
        height, width = int((size * 3 / 4) ** 0.5), int((size * 4 / 3) ** 0.5)
        rng = np.random.default_rng(index)
        coarse = Image.fromarray(rng.integers(0, 256, (24, 32, 3), dtype=np.uint8)).resize(
            (width, height), Image.Resampling.BICUBIC
        )
        noisy = np.asarray(coarse, np.int16) + rng.integers(-9, 10, (height, width, 1), dtype=np.int16)
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{index:02d}.jpg", quality=92)


def plain(model: dadkit.interfaces.DepthModel, folder: Path, output: Path) -> None:
    """What a careful first version does."""
    lut = (matplotlib.colormaps["Spectral_r"](np.linspace(0, 1, 256))[:, :3] * 255).round().astype(np.uint8)
    for path in sorted(folder.iterdir()):
        image = decode(path)
        values = model.predict(image).depth[0, 0].double().numpy()
        np.save(output / f"{path.stem}.npy", values.astype(np.float32))
        levels = (1 + np.round((values - values.min()) / max(np.ptp(values), 1e-30) * 65534)).astype(np.uint16)
        Image.fromarray(levels).save(output / f"{path.stem}.png")
        low, high = np.percentile(values, [2, 98])
        colors = lut[np.round(np.clip((values - low) / max(high - low, 1e-30), 0, 1) * 255).astype(np.uint8)]
        Image.fromarray(colors).save(output / f"{path.stem}.color.png")
        Image.fromarray(np.concatenate([pictures.to_uint8(image), colors], axis=1)).save(output / f"{path.stem}.side.png")


def seconds(work: Callable[[Path], object]) -> float:
    """Wall time of a piece of work that writes into a fresh folder."""
    with tempfile.TemporaryDirectory() as folder:
        begun = time.perf_counter()
        work(Path(folder))
        return time.perf_counter() - begun


def main() -> None:
    """Take turns and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--model", default="starter/small")
    given = parser.parse_args()
    model = dadkit.load_model(given.model)
    with tempfile.TemporaryDirectory() as made:
        folder = given.folder or Path(made)
        if given.folder is None:
            make(folder)
        count, ratios = len(find_inputs([folder]).images), []
        model.predict(torch.rand(3, 64, 64))
        for run in range(given.runs):
            slow = seconds(lambda output: plain(model, folder, output))
            fast = seconds(lambda output: predict_files(model, [folder], output, name="m"))
            ratios.append(slow / fast)
            print(
                f"run {run}: plain {slow:.1f} s, predict {fast:.1f} s ({count / fast:.1f} images/s), ratio {ratios[-1]:.2f}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.2f} over {given.runs} runs, {count} images")


if __name__ == "__main__":
    main()
