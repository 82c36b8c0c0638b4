"""Models against real depth: a table of sets, with intervals and trivial answers, and pictures.

    python benchmarks/real/measure.py FOLDER starter/small starter/tiny tcmono/small:weights=_ckpt_small.pt.tar

FOLDER holds the sets that `sets.yaml` names, one folder each; a set that is not there is left out with a message. Protocol:
affine-disparity. The mean map of a set is made from all other sets. Each number is a mean over the images of a set, the last
column the mean over sets, with the 95 % interval of a bootstrap that draws sets, and images within them.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image

import dadkit
from dadkit.data import DepthPairs, Sample
from dadkit.evaluation import Evaluation, evaluate, load_protocol
from dadkit.evaluation.run import MeanMap, VerticalRamp
from dadkit.interfaces import DepthModel
from dadkit.spaces import Space

HERE = Path(__file__).parent
METRICS = ("abs_rel", "delta1", "boundary_f1")


class Part:
    """Some samples of datasets, as one dataset."""

    def __init__(self, samples: Sequence[tuple[Any, int]]) -> None:
        self.samples = samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> Sample:
        dataset, item = self.samples[index]
        return dataset[item]


class Disparities:
    """Images with 8-bit disparities beside them. Their scale is unknown, which an alignment of scale and shift does not see."""

    def __init__(self, folder: Path, suffix: str) -> None:
        self.files = sorted(folder.glob(f"*{suffix}.png"))
        self.suffix = suffix

    def __len__(self) -> int:
        return len(self.files)

    def key(self, index: int) -> str:
        """The name of the scene."""
        return self.files[index].stem.removesuffix(self.suffix)

    def __getitem__(self, index: int) -> Sample:
        image = np.array(Image.open(self.files[index].with_name(f"{self.key(index)}.png")).convert("RGB"))
        disparity = torch.from_numpy(np.array(Image.open(self.files[index])).astype(np.float32))[None]
        valid = disparity > 0
        depth = torch.where(valid, 100 / disparity, 0)
        return Sample(torch.from_numpy(image).permute(2, 0, 1), self.key(index), depth, valid, Space.METRIC)


def find_sets(folder: Path, only: Sequence[str] = ()) -> dict[str, Part]:
    """The sets that are there and may judge, in the order of `sets.yaml`; or those named, which may be others."""
    found = {}
    for name, about in _about_sets().items():
        if name not in only if only else not about.get("judge", True):
            continue
        if (folder / name).is_dir():
            found[name] = read_set(folder, name)
        else:
            print(f"{name}: not in {folder}, left out")
    return found


def read_set(folder: Path, name: str) -> Part:
    """One set of `sets.yaml` below a folder."""
    about = _about_sets()[name]
    if "disparity" in about:
        dataset: Any = Disparities(folder / name, about["disparity"])
    else:
        options = {"images": ".", "depths": ".", "depth_suffix": "_depth", "space": "metric", **about["pairs"]}
        dataset = DepthPairs(folder / name, **options)
    kept = [i for i in range(len(dataset)) if "only" not in about or dataset.key(i) in about["only"]]
    return Part([(dataset, index) for index in kept])


def _about_sets() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = yaml.safe_load((HERE / "sets.yaml").read_text())
    return found


def models(names: Sequence[str]) -> dict[str, DepthModel]:
    """``PLUGIN/NAME[:key=value,…]`` or a run's folder -> the model."""
    built = {}
    for name in names:
        component, _, given = name.partition(":")
        options = {key: yaml.safe_load(value) for key, value in (pair.split("=", 1) for pair in given.split(",") if pair)}
        built[name] = dadkit.load_teacher(component, **options)
    return built


def interval(scores: Mapping[str, Sequence[float]], resamples: int = 2000) -> tuple[float, float]:
    """Of the mean over sets: sets are drawn with replacement, and images within each."""
    random = np.random.default_rng(0)
    sets = [np.asarray(values) for values in scores.values()]
    means = []
    for _ in range(resamples):
        drawn = random.integers(len(sets), size=len(sets))
        means.append(np.mean([sets[i][random.integers(len(sets[i]), size=len(sets[i]))].mean() for i in drawn]))
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def table(results: Mapping[str, Mapping[str, Evaluation]], metric: str) -> str:
    """One metric as a Markdown table: a row a model, a column a set."""
    sets = list(next(iter(results.values())))
    lines = [f"| {metric} | {' | '.join(sets)} | mean | 95 % |", "|---" * (len(sets) + 3) + "|"]
    for model, found in results.items():
        scores = {name: [image.metrics[metric] for image in found[name].images] for name in sets}
        means = [float(np.mean(values)) for values in scores.values()]
        low, high = interval(scores)
        cells = " | ".join(f"{mean:.3f}" for mean in [*means, float(np.mean(means))])
        lines.append(f"| {model} | {cells} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines)


def main() -> None:
    """Measure, print and write `results.json` into the working directory."""
    folder, *names = sys.argv[1:]
    sets = find_sets(Path(folder))
    if not sets:
        sys.exit(f"none of the sets of {HERE / 'sets.yaml'} is in {folder}")
    protocol = load_protocol("affine-disparity").model_copy(update={"metrics": METRICS})
    results: dict[str, dict[str, Evaluation]] = {}
    for name, model in {**models(names), "vertical ramp": VerticalRamp()}.items():
        results[name] = {key: evaluate(model, part, protocol, name=name, batch_size=1) for key, part in sets.items()}
        print(name, *(f"{key} {e.mean['abs_rel']:.3f}" for key, e in results[name].items()), flush=True)
    results["mean map"] = {}
    for key, part in sets.items():
        others = Part([sample for other, rest in sets.items() if other != key for sample in rest.samples])
        results["mean map"][key] = evaluate(MeanMap.of(others), part, protocol, name="mean map", batch_size=1)
    for metric in METRICS:
        print(f"\n{table(results, metric)}")
    raw = {
        model: {key: {image.key: dict(image.metrics) for image in found.images} for key, found in by_set.items()}
        for model, by_set in results.items()
    }
    Path("results.json").write_text(json.dumps(raw, indent=1))


if __name__ == "__main__":
    main()
