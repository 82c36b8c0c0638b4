"""How much the choice of protocol moves a number: the same predictions under several protocols, in one table.

    python benchmarks/protocols.py --model runs/quickstart --count 64

Rows are models, columns protocols, numbers AbsRel (mean and median over images); predictions are made once. On rendered scenes
and on scikit-image's stereo pair with measured disparity, where that is installed. Two more rows need no model: the truth with
noise in disparity, as good relative models have it, and the same with a tenth of the pixels far off.
"""

from __future__ import annotations

import argparse
import statistics

import torch

from dadkit import load_model
from dadkit.data import ProceduralScenes, Sample
from dadkit.evaluation import load_protocol
from dadkit.interfaces import Prediction, convert
from dadkit.spaces import Space

PROTOCOLS = ("affine-disparity", "genpercept-disparity", "moge", "robust-disparity")


def stereo_pair() -> list[Sample]:
    try:
        from skimage import data
    except ImportError:
        return []
    left, _, disparity = data.stereo_motorcycle()
    disparity = torch.from_numpy(disparity.copy()).float()[None]
    valid = torch.isfinite(disparity)
    depth = torch.where(valid, 994.978 * 0.193001 / (disparity + 31.086), 0.0)
    return [Sample(torch.from_numpy(left.copy()).permute(2, 0, 1), "motorcycle", depth, valid, Space.METRIC)]


def noisy_truth(sample: Sample, outliers: float) -> Prediction:
    generator = torch.Generator().manual_seed(len(sample.key))
    disparity, _ = convert(sample.depth, sample.valid, Space.METRIC, Space.DISPARITY)
    spread = disparity.std()
    noisy = disparity + 0.1 * spread * torch.randn(disparity.shape, generator=generator)
    wild = torch.rand(disparity.shape, generator=generator) < outliers
    noisy = torch.where(wild, noisy + 3 * spread * torch.rand(disparity.shape, generator=generator), noisy)
    return Prediction(7 * noisy[None] + 2, Space.DISPARITY)


def rows(samples: list[Sample], models: dict[str, object]) -> dict[str, list[Prediction]]:
    found = {
        name: [model.predict(sample.image.float() / 255) for sample in samples]  # type: ignore[attr-defined]
        for name, model in models.items()
    }
    found["truth + noise"] = [noisy_truth(sample, 0.0) for sample in samples]
    found["truth + noise + 10 % wild"] = [noisy_truth(sample, 0.1) for sample in samples]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", action="append", default=[], help="as `dadkit evaluate --model`; may be repeated")
    parser.add_argument("--count", type=int, default=32)
    parser.add_argument("--size", type=int, default=192)
    arguments = parser.parse_args()
    models = {name: load_model(name) for name in arguments.model}
    scenes = ProceduralScenes(count=arguments.count, size=arguments.size, split="test")
    for title, samples in {
        "rendered scenes": [*map(scenes.__getitem__, range(len(scenes)))],
        "stereo pair": stereo_pair(),
    }.items():
        if not samples:
            continue
        print(f"\n{title}, {len(samples)} images: AbsRel, mean (median)")
        print(f"{'':28}" + "".join(f"{name:>24}" for name in PROTOCOLS))
        for name, predictions in rows(samples, models).items():
            cells = []
            for protocol in map(load_protocol, PROTOCOLS):
                values = []
                for sample, prediction in zip(samples, predictions, strict=True):
                    scores = protocol.score(prediction, sample.depth[None], sample.valid[None])
                    values.append(scores.metrics["abs_rel"].item())
                cells.append(f"{statistics.fmean(values):.4f} ({statistics.median(values):.4f})")
            print(f"{name:28}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main()
