"""Metres from a relative model and sparse points, on real pairs, and the bars that dadkit holds itself to.

    python benchmarks/real/completion.py FOLDER starter/small [--images 4] [--completer refine:weights=refine.safetensors]

On sets whose depth is dense (nyuv2, misc_rgbd, lingbot, tabletop_uois) points are simulated from it with 1 % noise, and the
measured pixels include them; of points in one half there are four draws. The column "second" is kriging with the second
opinion of `starter/small` at 192 pixels. On street sets (kitti, ddad_dgp) some of the LiDAR's lines are given and the others
are measured. Numbers are means over sets of the mean AbsRel over images; images are seeded by their key.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from measure import find_sets
from torch import Tensor

import dadkit
from dadkit.cli.arguments import split_model
from dadkit.data import Sample
from dadkit.data.patterns import generator_for, lidar_lines, simulate
from dadkit.evaluation.completion import Nearest, OneFactor
from dadkit.interfaces import Completer, Hints, Prediction
from dadkit.loading import load_completer

DENSE = ("nyuv2", "misc_rgbd", "lingbot", "tabletop_uois")
STREETS = ("kitti", "ddad_dgp")
SETTINGS = [
    *(("uniform", count, 0.0) for count in (1, 2, 5, 20, 100, 500, 5000)),
    *(("uniform", 500, share) for share in (0.02, 0.1, 0.3)),
    *((pattern, 100, 0.0) for pattern in ("half", "lines", "keypoints", "holes", "range")),
]
LINES = (32, 16, 8, 4)
DRAWS = {"half": 4}
Errors = dict[str, dict[str, dict[str, list[float]]]]
"""Setting -> method -> set -> AbsRel of its images."""


def given(sample: Sample, pattern: str, count: int, outliers: float, draw: int) -> Hints:
    """Simulated points of a sample."""
    assert sample.depth is not None
    assert sample.valid is not None
    generator = generator_for(draw, sample.key, pattern, count, str(outliers))
    return simulate(
        sample.depth[0],
        sample.valid[0],
        sample.image,
        pattern=pattern,
        points=count,
        generator=generator,
        noise=0.01,
        outliers=outliers,
    )


def measure(
    errors: Errors,
    setting: str,
    name: str,
    sample: Sample,
    relative: Prediction,
    hints: Hints,
    methods: dict[str, Completer],
    measured: Tensor,
) -> None:
    """AbsRel of all methods for one image."""
    assert sample.depth is not None
    for method, completer in methods.items():
        depth = completer.complete(sample.image[None].float() / 255, hints, relative).depth[0, 0].cpu()
        error = ((depth - sample.depth[0]).abs() / sample.depth[0])[measured]
        errors.setdefault(setting, {}).setdefault(method, {}).setdefault(name, []).append(float(error.mean()))


def table(errors: Errors, methods: dict[str, Completer]) -> str:
    """A row a setting, a column a method."""
    lines = [f"| points | {' | '.join(methods)} |", "|---" * (len(methods) + 1) + "|"]
    lines += [f"| {key} | {' | '.join(f'{mean(found[m]):.3f}' for m in methods)} |" for key, found in errors.items()]
    return "\n".join(lines)


def mean(by_set: dict[str, list[float]]) -> float:
    """Over sets, of the means over images."""
    return sum(sum(values) / len(values) for values in by_set.values()) / len(by_set)


def bars(errors: Errors, learned: str | None) -> str:
    """What was wanted, and what was measured."""
    some = {method: mean(found) for method, found in errors["500 uniform, 2% outliers"].items()}
    half = errors["100 half"]
    pairs = [(a, b) for name in half["fill"] for a, b in zip(half["fill"][name], half["global fit"][name], strict=True)]
    rows = [
        ("fill below the global fit, 500 points, 2 % outliers", "40 %", f"{1 - some['fill'] / some['global fit']:.0%}"),
        ("fill below the nearest point, 500 points, 2 % outliers", "15 %", f"{1 - some['fill'] / some['nearest']:.0%}"),
        (
            "fill not worse than the global fit, all points in one half",
            "90 %",
            f"{sum(a <= b for a, b in pairs) / len(pairs):.0%}",
        ),
    ]
    for method in ("second",) if learned is None else ("second", learned):
        below = {key: 1 - mean(found[method]) / mean(found["fill"]) for key, found in errors.items()}
        rows += [(f"{method} below fill, {key}", "5 %", f"{below[key]:.1%}") for key in ("100 uniform", "100 half")]
        worst = min(below, key=lambda key: below[key])
        rows += [(f"{method} below fill at its worst, {worst}", "-2 %", f"{below[worst]:.1%}")]
    return "\n".join(["| bar | at least | measured |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)])


@torch.no_grad()
def main() -> None:
    """Measure and print Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("model")
    parser.add_argument("--images", type=int, default=100, help="at most so many of a set")
    parser.add_argument("--completer", help="a learned completer beside the closed forms")
    parser.add_argument(
        "--sets", nargs="*", default=DENSE, help="sets with dense depth; of others than the default to choose by"
    )
    args = parser.parse_args()
    methods: dict[str, Completer] = {"nearest": Nearest(), "factor": OneFactor()}
    methods |= {name: load_completer("align", local=local) for name, local in (("global fit", "none"), ("fill", "fill"))}
    methods |= {local: load_completer("align", local=local) for local in ("poisson", "knn", "kriging")}
    methods["second"] = load_completer("align", local="kriging", second="starter/small", second_options={"native_size": 192})
    learned = None
    if args.completer is not None:
        learned, options = split_model(args.completer)
        learned, methods = "learned", {**methods, "learned": load_completer(learned, **options)}
    name, options = split_model(args.model)
    model = dadkit.load_teacher(name, **options)
    dense: Errors = {}
    streets: Errors = {}
    sets = find_sets(args.folder, () if args.sets == DENSE else args.sets)
    for key in (*args.sets, *STREETS):
        part = sets.get(key)
        for index in range(0 if part is None else min(args.images, len(part))):
            sample = part[index]
            relative = model.predict(sample.image)
            if key not in STREETS:
                for pattern, count, outliers in SETTINGS:
                    setting = f"{count} {pattern}" + (f", {outliers:.0%} outliers" if outliers else "")
                    for draw in range(DRAWS.get(pattern, 1)):
                        hints = given(sample, pattern, count, outliers, draw)
                        measure(dense, setting, key, sample, relative, hints, methods, sample.valid[0])
                continue
            assert sample.intrinsics is not None
            sweep = Hints(sample.depth[None], sample.valid[None])
            for lines in LINES:
                hints = lidar_lines(sweep, sample.intrinsics, lines)
                measure(
                    streets, f"{lines} of 64 lines", key, sample, relative, hints, methods, (sweep.valid & ~hints.valid)[0, 0]
                )
    print(f"{args.model}, points simulated from dense depth of {', '.join(key for key in args.sets if key in sets)}:\n")
    print(table(dense, methods), "\n")
    if streets:
        print(f"Lines of a LiDAR given, the others measured, {', '.join(key for key in STREETS if key in sets)}:\n")
        print(table(streets, methods), "\n")
    print(bars(dense | streets, learned))


if __name__ == "__main__":
    main()
