"""Many variants of a run, each with several seeds, and one table with mean and spread."""

from __future__ import annotations

import itertools
import json
import re
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dadkit.config import load_run
from dadkit.config.schema import RunConfig
from dadkit.config.stages import parse_axis
from dadkit.errors import DadkitError
from dadkit.files import write_text
from dadkit.training.run import RunResult

__all__ = ["Row", "SweepError", "Variant", "plan", "rows", "write"]

METRICS = ("abs_rel", "delta1", "rmse")


class SweepError(DadkitError):
    """A sweep that cannot be planned."""

    exit_code = 2


@dataclass(frozen=True)
class Variant:
    """One setting, to be trained with every seed.

    Attributes:
        base: the name that the file gives.
        name: that, and what is changed; the runs are called ``NAME-sSEED``.
        runs: resolved run of each seed.
        results: what came of them so far.
    """

    base: str
    name: str
    runs: Mapping[int, RunConfig]
    results: Mapping[int, RunResult] = field(default_factory=dict)

    def train(self, run_one: Callable[[RunConfig], RunResult | None]) -> Variant:
        """Returns the same with results; ``run_one`` answers None where a run failed."""
        found = {seed: run_one(run) for seed, run in self.runs.items()}
        return replace(self, results={seed: result for seed, result in found.items() if result is not None})


@dataclass(frozen=True)
class Row:
    """A variant's model under a protocol: each metric's mean over seeds and sample standard deviation (None for one seed)."""

    variant: str
    model: str
    protocol: str
    seeds: int
    mean: Mapping[str, float]
    spread: Mapping[str, float | None]


def plan(files: Sequence[str], overrides: Sequence[str], axes: Sequence[str], seeds: Sequence[int] | int) -> list[Variant]:
    """Returns every file with every combination of the axes' values.

    Args:
        files: YAML files.
        overrides: ``key=value`` each, for all of them.
        axes: ``key=[value, value, …]`` each.
        seeds: the seeds, or how many from the file's own on.

    Raises:
        ConfigError: a file, an override or an axis is wrong.
        SweepError: two variants would be trained into one folder.
    """
    parsed = [parse_axis(axis) for axis in axes]
    variants = []
    for file, values in itertools.product(dict.fromkeys(files), itertools.product(*(values for _, values in parsed))):
        keys = [key for key, _ in parsed]
        chosen = [*overrides, *(f"{key}={json.dumps(value)}" for key, value in zip(keys, values, strict=True))]
        base = load_run(file, chosen)
        name = "-".join([base.name, *(_short(key, value) for key, value in zip(keys, values, strict=True))])
        numbers = range(base.seed, base.seed + seeds) if isinstance(seeds, int) else seeds
        runs = {seed: load_run(file, [*chosen, f"seed={seed}", f"name={json.dumps(f'{name}-s{seed}')}"]) for seed in numbers}
        variants.append(Variant(base.name, name, runs))
    _check_apart(variants)
    return variants


def rows(variants: Sequence[Variant]) -> list[Row]:
    """Returns the table of a sweep: a row for each variant's model, in the order of the variants."""
    return [row for variant in variants for row in _rows(variant)]


def write(path: Path, variants: Sequence[Variant]) -> None:
    """Write the table, and every seed's values, as JSON."""
    found: list[dict[str, Any]] = [
        {
            "variant": row.variant,
            "model": row.model,
            "protocol": row.protocol,
            "mean": row.mean,
            "spread": row.spread,
            "seeds": {
                seed: evaluation.mean
                for variant in variants
                if variant.name == row.variant
                for seed, result in variant.results.items()
                for evaluation in result.evaluations
                if (evaluation.model, evaluation.protocol) == (row.model, row.protocol)
            },
        }
        for row in rows(variants)
    ]
    write_text(path, json.dumps(found, indent=2) + "\n")


def _rows(variant: Variant) -> Iterator[Row]:
    evaluations = [evaluation for result in variant.results.values() for evaluation in result.evaluations]
    for model, protocol in dict.fromkeys((one.model, one.protocol) for one in evaluations):
        own = [one.mean for one in evaluations if (one.model, one.protocol) == (model, protocol)]
        values = {name: [mean[name] for mean in own] for name in METRICS if all(name in mean for mean in own)}
        yield Row(
            variant.name,
            model,
            protocol,
            len(own),
            {name: statistics.fmean(numbers) for name, numbers in values.items()},
            {name: statistics.stdev(numbers) if len(numbers) > 1 else None for name, numbers in values.items()},
        )


def _short(key: str, value: Any) -> str:
    """``lr=0.003``, as far as a folder's name can hold it: the key's last part, and the value or the name in it."""
    named = value.get("name") if isinstance(value, dict) else None
    text = str(named) if named is not None else value if isinstance(value, str) else json.dumps(value)
    last = [part for part in key.split(".") if part not in ("name", "weight", "options")][-1:] or [key]
    return re.sub(r"[^A-Za-z0-9._]+", "-", f"{last[0]}-{text}").strip("-")


def _check_apart(variants: Sequence[Variant]) -> None:
    seen: set[Path] = set()
    for variant in variants:
        for run in variant.runs.values():
            folder = Path(run.output, run.name)
            if folder in seen:
                raise SweepError(f"two variants would be trained into {folder}; give the files different names (name: …)")
            seen.add(folder)
