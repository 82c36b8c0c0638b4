"""Does leaving out labels by a score lower a student's error on real depth?

    python benchmarks/labelling_filters.py PHOTOS… --real FOLDER --teacher tcmono/small:weights=_ckpt_small.pt.tar

The photographs are labelled once by the teacher, with the scores `flip` and, by a second teacher, `agree`. Students learn from
all labels, from those that a score leaves, and from as many drawn at random: by the score `digest`, which is a hash. Within a
seed all students begin with the same weights. Each is measured on the real pairs of `real/sets.yaml` (AbsRel, a mean over
images, then over sets). Runs that are finished are not done again.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from real.measure import find_sets
from reproduce.verdict import estimate
from rich.console import Console

from dadkit import load_model
from dadkit.cli.arguments import split_model
from dadkit.config import parse_run
from dadkit.data import Labels
from dadkit.evaluation import evaluate, load_protocol
from dadkit.labelling import Settings
from dadkit.labelling.job import Executor, label
from dadkit.training import train

STUDENT = """
name: {name}
seed: {seed}
output: {output}
report: false
data:
  labelled: [{{name: labels, options: {{root: {labels}, images: {images}{limits}}}}}]
losses: {{labelled: {{normalizer: {{name: hybrid}}}}, gradient: {{weight: 0.2}}}}
batch_size: 8
ema: 0.98
stages:
  - name: main
    student: {{name: starter/tiny, options: {{init: encoder}}}}
    contexts: {{name: whole, options: {{view_size: [128, 160]}}}}
    optim: {{lr: 1.5e-3, encoder_lr: 5.0e-4, warmup: 20, schedule: cosine}}
    iterations: {iterations}
"""


def main() -> None:
    """Label, train, measure, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("photos", nargs="+", help="folders")
    arguments.add_argument("--real", type=Path, required=True, help="folder of the sets of real/sets.yaml")
    arguments.add_argument("--teacher", required=True)
    arguments.add_argument("--second", default="starter/small", help="whose agreement is a score")
    arguments.add_argument("--shares", type=float, nargs="*", default=[0.1, 0.3], help="what is left out")
    arguments.add_argument("--seeds", type=int, default=4)
    arguments.add_argument("--iterations", type=int, default=400)
    arguments.add_argument("--work", type=Path, default=Path("filters"), help="folder of labels and runs")
    given = arguments.parse_args()
    torch.set_num_threads(1)
    root = given.work / "labels"
    teachers = [dict(zip(("name", "options"), split_model(text), strict=True)) for text in (given.teacher, given.second)]
    photos = [str(Path(folder).absolute()) for folder in given.photos]
    label(str(root), Settings({"root": photos}, teachers, size=(256, 320), scores=["flip", "agree"]), Executor(workers=0))
    arms = limits(Labels(root), given.shares)
    sets, results = find_sets(given.real), given.work / "results.json"
    found: dict[str, dict[str, float]] = json.loads(results.read_text()) if results.exists() else {}
    for seed in range(given.seeds):
        for name, limit in arms.items():
            if str(seed) in found.setdefault(name, {}):
                continue
            text = STUDENT.format(
                name=f"{name}-{seed}".replace(" ", "-").replace("%", ""),
                seed=seed,
                output=given.work / "runs",
                labels=root.absolute(),
                images=json.loads((root / "plan.json").read_text())["base"],
                limits=f", max_score: {{{limit}}}" if limit else "",
                iterations=given.iterations,
            )
            trained = train(parse_run(text), console=Console(quiet=True))
            found[name][str(seed)] = measured(trained.folder, sets)
            results.write_text(json.dumps(found, indent=1))
            print(f"{name}, seed {seed}: AbsRel {found[name][str(seed)]:.4f}", flush=True)
    print("| left out | AbsRel | minus that of all labels, 95 % |\n|---|---|---|")
    for name, by_seed in found.items():
        apart = estimate([by_seed[seed] - found["nothing"][seed] for seed in by_seed])
        mean = estimate(list(by_seed.values())).mean
        told = "" if name == "nothing" else f"{apart.mean:+.4f} ({apart.low:+.4f} to {apart.high:+.4f})"
        print(f"| {name} | {mean:.4f} | {told} |")


def limits(labels: Labels, shares: list[float]) -> dict[str, str]:
    """What is left out -> the limit that leaves it out."""
    table = [labels.scores(index) for index in range(len(labels))]
    found = {"nothing": ""}
    for share in shares:
        for score, word in (("digest", "at random"), ("flip", "by flip"), ("agree", "by agree")):
            limit = float(np.quantile(np.array([row[score] for row in table], dtype=np.float64), 1 - share))
            found[f"{share:.0%} {word}"] = f"{score}: {limit!r}"
    return found


def measured(folder: Path, sets: Any) -> float:
    """AbsRel of a trained student."""
    model = load_model(str(folder))
    protocol = load_protocol("affine-disparity").model_copy(update={"metrics": ("abs_rel",)})
    means = [evaluate(model, part, protocol, name="student", batch_size=1).mean["abs_rel"] for part in sets.values()]
    return float(np.mean(means))


if __name__ == "__main__":
    main()
