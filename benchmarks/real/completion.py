"""Metres from a relative model and simulated points, on pairs with dense measured depth.

    python benchmarks/real/completion.py FOLDER starter/small [IMAGES_A_SET]

Points are drawn from the measured depth with 1 % noise: uniformly, from the left half, or from eight rows. Outliers are
factors of 0.3 to 0.6 and 1.6 to 3.3. Numbers are means over sets of the mean AbsRel over images, points included.
Written for sets whose depth is dense: nyuv2, misc_rgbd, lingbot, tabletop_uois.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch
from measure import find_sets
from torch import Tensor

import dadkit
from dadkit.alignment import align_to_points
from dadkit.interfaces import Hints

DENSE = ("nyuv2", "misc_rgbd", "lingbot", "tabletop_uois")
SETTINGS = [
    (pattern, n, 0.0) for pattern, n in [*(("uniform", n) for n in (1, 2, 5, 20, 100, 500, 5000)), ("half", 100), ("rows", 100)]
]
SETTINGS += [("uniform", 500, share) for share in (0.02, 0.1, 0.3)]
METHODS = ("nearest", "factor", "none", "fill", "poisson", "knn")


def draw(depth: Tensor, valid: Tensor, pattern: str, count: int, outliers: float, seed: int) -> Hints:
    """Simulated points of one picture."""
    generator = torch.Generator().manual_seed(seed)
    allowed = valid.clone()
    if pattern == "half":
        allowed[:, allowed.shape[1] // 2 :] = False
    if pattern == "rows":
        rows = torch.linspace(0, len(allowed) - 1, 10).long()[1:-1]
        allowed[[row for row in range(len(allowed)) if row not in set(rows.tolist())]] = False
    at = allowed.nonzero()
    at = at[torch.randperm(len(at), generator=generator)[:count]]
    z = depth[at[:, 0], at[:, 1]].double()
    z = z * torch.exp(0.01 * torch.randn(len(z), generator=generator, dtype=torch.float64))
    wild = torch.rand(len(z), generator=generator) < outliers
    sign = torch.where(torch.rand(len(z), generator=generator) < 0.5, -1.0, 1.0)
    factor = torch.exp(sign * (0.5 + 0.7 * torch.rand(len(z), generator=generator))).double()
    z = torch.where(wild, z * factor, z)
    return Hints.from_points(torch.stack((at[:, 1].double(), at[:, 0].double(), z), 1), (depth.shape[0], depth.shape[1]))


def answer(method: str, relative: Tensor, hints: Hints) -> Tensor:
    """(H, W) metres."""
    if method == "nearest":
        at = hints.valid[0, 0].nonzero()
        z = hints.depth[0, 0][hints.valid[0, 0]]
        rows = torch.arange(relative.shape[-2]).view(-1, 1, 1)
        columns = torch.arange(relative.shape[-1]).view(1, -1, 1)
        best = [
            ((rows[part] - at[:, 0]).square() + (columns - at[:, 1]).square()).argmin(-1)
            for part in torch.arange(relative.shape[-2]).split(max(1, 2_000_000 // (relative.shape[-1] * len(at))))
        ]
        return z[torch.cat(best)]
    if method == "factor":
        inverse = 1 / relative[0, 0].double().clamp(min=1e-3 * float(relative.max()))
        known = hints.valid[0, 0]
        return inverse * (hints.depth[0, 0][known].double().median() / inverse[known].median())
    fit = align_to_points(relative, "disparity", hints.depth, hints.valid, local=method)  # type: ignore[arg-type]
    return fit.depth[0, 0]


def main() -> None:
    """Measure and print a Markdown table."""
    folder, name, *rest = sys.argv[1:]
    most = int(rest[0]) if rest else 100
    sets = {key: part for key, part in find_sets(Path(folder)).items() if key in DENSE}
    model = dadkit.load_teacher(name)
    errors: dict[tuple[str, int, float], dict[str, list[float]]] = {setting: {m: [] for m in METHODS} for setting in SETTINGS}
    never_worse = [0, 0]
    for part in sets.values():
        found: dict[tuple[str, int, float], dict[str, list[float]]] = {s: {m: [] for m in METHODS} for s in SETTINGS}
        for index in range(min(most, len(part))):
            sample = part[index]
            assert sample.depth is not None
            assert sample.valid is not None
            depth, valid = sample.depth[0], sample.valid[0]
            relative = model.predict(sample.image).depth
            for setting in SETTINGS:
                pattern, count, outliers = setting
                hints = draw(depth, valid, pattern, count, outliers, seed=index)
                for method in METHODS:
                    if method == "nearest" and count > 500:
                        continue
                    error = (answer(method, relative, hints) - depth).abs() / depth
                    found[setting][method].append(float(error[valid].mean()))
                if pattern == "half":
                    never_worse[0] += found[setting]["fill"][-1] <= found[setting]["none"][-1]
                    never_worse[1] += 1
        for setting, methods in found.items():
            for method, values in methods.items():
                if values:
                    errors[setting][method].append(sum(values) / len(values))
    print(f"{name}; sets: {', '.join(sets)}\n\n| points | {' | '.join(METHODS)} |\n{'|---' * (len(METHODS) + 1)}|")
    for (pattern, count, outliers), methods in errors.items():
        cells = [f"{sum(values) / len(values):.3f}" if values else "" for values in methods.values()]
        label = f"{count} {pattern}" + (f", {outliers:.0%} outliers" if outliers else "")
        print(f"| {label} | {' | '.join(cells)} |")
    print(f"\nfill is not worse than the global fit on {never_worse[0]} of {never_worse[1]} images with points in one half")


if __name__ == "__main__":
    main()
