"""Metres of the models of `metric_student.yaml` for cameras that they have not seen.

    python benchmarks/real/metric_student.py RGBD RUN

RGBD holds the sets of `sets.yaml`; RUN is the run's folder. Sets that took no part in the training are measured without any
alignment (protocol `metric`): whole pictures, and their middle cut out at half the width and height, which has the focal length
of a lens of twice the reach. Beside the models is the best constant: every picture's metres are the median of all true depth of
the set, which no model may look at.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from dadkit.data import DepthPairs, Sample
from dadkit.evaluation import evaluate, load_protocol
from dadkit.evaluation.run import MeanMap
from dadkit.interfaces import DepthModel, crop_camera
from dadkit.loading import load_result
from dadkit.spaces import Space

HERE = Path(__file__).parent
HELD_OUT = ("nyuv2", "lingbot", "ddad_dgp")
STAGES = ("teacher", "canonical", "plain")


class Set:
    """The pictures of a set, whole or their middle, with their cameras.

    Args:
        folder: of the pairs, with `intrinsics.json`.
        about: the set's entry in `sets.yaml`.
        middle: True for the middle half of each picture.
    """

    def __init__(self, folder: Path, about: dict[str, Any], *, middle: bool = False) -> None:
        self.pairs = DepthPairs(
            folder,
            images=".",
            depths=".",
            depth_suffix="_depth",
            space="metric",
            intrinsics="intrinsics.json",
            **about["pairs"],
        )
        wanted = about.get("only")
        self.indices = [i for i in range(len(self.pairs)) if wanted is None or self.pairs.key(i) in wanted]
        self.middle = middle

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Sample:
        sample = self.pairs[self.indices[index]]
        if not self.middle:
            return sample
        assert sample.depth is not None
        assert sample.valid is not None
        assert sample.intrinsics is not None
        height, width = sample.image.shape[-2:]
        box = (..., slice(height // 4, height // 4 + height // 2), slice(width // 4, width // 4 + width // 2))
        return replace(
            sample,
            image=sample.image[box],
            depth=sample.depth[box],
            valid=sample.valid[box],
            intrinsics=crop_camera(sample.intrinsics, (width // 4, height // 4)),
        )


def constant(samples: Sequence[Sample]) -> DepthModel:
    """The median of all true depth, everywhere."""
    known = [sample.depth[sample.valid] for sample in samples if sample.depth is not None and sample.valid is not None]
    return MeanMap(torch.cat(known).median().view(1, 1, 1, 1), Space.METRIC)


def main() -> None:
    rgbd, run = map(Path, sys.argv[1:3])
    about = yaml.safe_load((HERE / "sets.yaml").read_text())
    models: dict[str, DepthModel] = {name: load_result(run / "stages" / name / "model.safetensors") for name in STAGES}
    protocol = load_protocol("metric")
    found: dict[str, dict[str, dict[str, float]]] = {}
    for name in HELD_OUT:
        if not (rgbd / name).is_dir():
            print(f"{name}: not in {rgbd}, left out")
            continue
        for middle in (False, True):
            data = Set(rgbd / name, about[name], middle=middle)
            rows = {**models, "constant": constant([data[i] for i in range(len(data))])}
            column = f"{name}{', middle' if middle else ''}"
            for row, model in rows.items():
                measured = evaluate(model, data, protocol, name=row)
                found.setdefault(row, {})[column] = {key: round(measured.mean[key], 4) for key in ("abs_rel", "delta1")}
    columns = list(next(iter(found.values())))
    for metric in ("abs_rel", "delta1"):
        print(f"| {metric} | " + " | ".join(columns) + " |")
        print("|" + "---|" * (len(columns) + 1))
        for row, cells in found.items():
            print(f"| {row} | " + " | ".join(f"{cells[c][metric]:.3f}".lstrip("0") for c in columns) + " |")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
