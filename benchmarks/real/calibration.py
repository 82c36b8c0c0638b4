"""Metres from a few known distances: each form of `dadkit calibrate` on real depth, as a table.

    python benchmarks/real/calibration.py FOLDER [--points 5] [--draws 20] starter/small starter/tiny

FOLDER is that of `measure.py`. In each draw points are spread from near to far over the model's values, moved a little at
random, with 2 % of noise on their distances. Numbers are medians of |found / true - 1| over pixels with true depth: means
over draws (of those in which the form is possible), images, sets. `the simple ones` takes factor, line or power by the
leave-one-out error, `auto` the curve too; `auto expects` is the error that the command prints.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import measure
import numpy as np
import torch
from torch import Tensor

from dadkit.alignment.few import CalibrationError, FewFit, fit_few
from dadkit.spaces import Space

SETS = ("nyuv2", "misc_rgbd", "lingbot", "tabletop_uois", "redkitchen", "kitti", "ddad_dgp", "mosd", "cleargrasp_d435")
FORMS = ("scale", "affine", "power", "curve", "auto")
ROWS = (*FORMS, "the simple ones", "auto expects")
FARTHEST = 120.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("models", nargs="+")
    parser.add_argument("--points", type=int, default=5)
    parser.add_argument("--draws", type=int, default=20)
    parser.add_argument("--wrong", action="store_true", help="one distance of each draw is doubled or halved")
    options = parser.parse_args()
    sets = measure.find_sets(options.folder, SETS)
    print("\n".join([f"| {options.points} points | {' | '.join(sets)} | mean |", "|---" * (len(sets) + 2) + "|"]))
    for name, model in measure.models(options.models).items():
        found: dict[str, dict[str, list[float]]] = {row: {} for row in ROWS}
        for one, samples in sets.items():
            for sample in (samples[index] for index in range(len(samples))):
                assert sample.depth is not None
                valid = sample.depth.isfinite() & (sample.depth > 0) & (sample.depth < FARTHEST)
                valid = valid if sample.valid is None else valid & sample.valid
                values = model.predict(sample.image.float() / 255).depth[0].double()
                errors = draws(values[valid], sample.depth[valid].double(), values[..., ::4, ::4], model.spec.space, options)
                for row, several in errors.items():
                    if several:
                        found[row].setdefault(one, []).append(float(np.mean(several)))
        for row, scores in found.items():
            means = [float(np.mean(scores[one])) if one in scores else float("nan") for one in sets]
            print(
                f"| `{name}` {row} | {' | '.join(f'{mean:.3f}' for mean in [*means, float(np.nanmean(means))])} |", flush=True
            )


def draws(values: Tensor, metres: Tensor, view: Tensor, space: Space, options: argparse.Namespace) -> dict[str, list[float]]:
    """Errors of each form, one a draw."""
    random = np.random.default_rng(0)
    order = values.argsort()
    ordered = values[order].numpy()
    low, high = ordered[len(ordered) // 50], ordered[-1 - len(ordered) // 50]
    errors: dict[str, list[float]] = {row: [] for row in ROWS}
    for _ in range(options.draws):
        levels = low + (high - low) * (np.linspace(0.05, 0.95, options.points) + 0.08 * (random.random(options.points) - 0.5))
        chosen = order[np.searchsorted(ordered, levels).clip(0, len(ordered) - 1)]
        tape = metres[chosen] * torch.from_numpy(1 + 0.02 * random.standard_normal(options.points))
        if options.wrong:
            tape[random.integers(options.points)] *= 4.0 ** random.integers(2) / 2
        fits: dict[str, FewFit] = {}
        for form in FORMS:
            try:
                fits[form] = fit_few(values[chosen], tape, space, view, form=form)
            except CalibrationError:
                continue
            errors[form].append(error(fits[form], values, metres))
        possible = [fits[one] for one in ("affine", "power", "scale") if one in fits]
        if possible:
            best = min(possible, key=lambda fit: sum(abs(np.log1p(max(one, -0.999))) for one in fit.left_out))
            errors["the simple ones"].append(error(best, values, metres))
        if "auto" in fits and fits["auto"].expected is not None:
            errors["auto expects"].append(fits["auto"].expected)
    return errors


def error(fit: FewFit, values: Tensor, metres: Tensor) -> float:
    """The median relative error over 20,000 pixels or all."""
    every = max(1, len(values) // 20_000)
    values, metres = values[::every], metres[::every]
    return float((fit.curve(values) / metres - 1).abs().median())


if __name__ == "__main__":
    main()
