"""`dadkit sweep`: variants times seeds, one table with mean and spread."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dadkit.cli.output import INTERRUPTED, print_error, several, together

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console
    from rich.table import Table

    from dadkit.training.sweep import Row, Variant


def sweep(
    arguments: Annotated[
        list[str], typer.Argument(metavar="FILE... [KEY=VALUE]...", help="YAML files, and overrides for all of them.")
    ],
    axis: Annotated[
        list[str] | None,
        typer.Option(
            "--axis", metavar="KEY=[VALUE, ...]", help="A key and the values it takes, one after the other; may be repeated."
        ),
    ] = None,
    seeds: Annotated[
        str, typer.Option("--seeds", metavar="COUNT | A,B,...", help="How many seeds, from the file's own on; or which.")
    ] = "3",
    fresh: Annotated[bool, typer.Option("--fresh", help="Throw away what earlier runs left in their folders.")] = False,
) -> None:
    """Train every file with every combination of the axes' values, each with several seeds, one run after the other.

    The runs are called NAME-VALUES-sSEED; what is finished is not trained again, so a sweep that was stopped goes on, and one
    with more seeds adds to it. The table at the end shows mean and sample standard deviation over seeds; OUTPUT/NAME-sweep.json
    holds every number. Under torchrun all processes train each run together.

    Example: dadkit sweep configs/quickstart.yaml --axis "losses.shared.normalizer.name=[hybrid, global]" --seeds 3
    """
    from rich.console import Console

    from dadkit.config.schema import RunConfig
    from dadkit.config.stages import split_arguments
    from dadkit.errors import DadkitError
    from dadkit.threads import keep_memory
    from dadkit.training.run import RunResult, train
    from dadkit.training.sweep import SweepError, plan

    keep_memory()
    with together() as (main, parallel, reports):
        files, overrides = split_arguments(arguments)
        if not files:
            raise SweepError("nothing to sweep: give a YAML file, for instance `dadkit sweep configs/quickstart.yaml`")
        variants = plan(files, overrides, axis or [], _seeds(seeds))
        console = Console(quiet=not main)
        count = sum(len(variant.runs) for variant in variants)
        console.print(f"{several(len(variants), 'variant')}, {several(count, 'run')}", highlight=False)
        codes: list[int] = []

        def run_one(run: RunConfig) -> RunResult | None:
            # The user wants to stop, or processes are no longer at the same place.
            if INTERRUPTED in codes or (parallel and codes):
                return None
            console.rule(run.name, align="left")
            try:
                return train(run, fresh=fresh, console=console)
            except DadkitError as error:
                if reports(error):
                    print_error(error)
                codes.append(error.exit_code)
                return None

        _conclude([variant.train(run_one) for variant in variants], console, failed=bool(codes))
    if codes:
        raise typer.Exit(INTERRUPTED if INTERRUPTED in codes else codes[0])


def _conclude(variants: Sequence[Variant], console: Console, *, failed: bool) -> None:
    """Show the table and write it; processes that do not evaluate have none."""
    from dadkit.training.sweep import rows, write

    table = rows(variants)
    if table:
        console.print(_table(table))
        first = next(iter(variants[0].runs.values()))
        path = Path(first.output).expanduser() / f"{variants[0].base}-sweep.json"
        write(path, variants)
        console.print(f"written: {path}", highlight=False, soft_wrap=True)
    missing = [run.name for variant in variants for seed, run in variant.runs.items() if seed not in variant.results]
    if failed:
        console.print(f"without a result: {', '.join(missing)}", highlight=False, soft_wrap=True)
    elif not table:
        console.print("no run has an evaluation, so there is nothing to compare", highlight=False)


def _seeds(text: str) -> list[int] | int:
    from dadkit.training.sweep import SweepError

    if re.fullmatch(r"[1-9][0-9]*", text):
        return int(text)
    if re.fullmatch(r"[0-9]+(,[0-9]+)+,?|[0-9]+,", text):
        return list(dict.fromkeys(int(part) for part in text.split(",") if part))
    raise SweepError(f"--seeds is a number of seeds (3) or a list of them (0,1,5), got '{text}'")


def _table(found: Sequence[Row]) -> Table:
    from rich.table import Table

    protocols = dict.fromkeys(row.protocol for row in found)
    table = Table(title="Sweep: mean ± standard deviation over seeds", caption=f"protocol: {', '.join(protocols)}")
    for heading in ("variant", "model"):
        table.add_column(heading)
    for heading in ("seeds", "AbsRel ↓", "δ1 ↑", "RMSE ↓"):
        table.add_column(heading, justify="right")
    shown = ""
    for row in found:
        if shown and row.variant != shown:
            table.add_section()
        head = row.variant if row.variant != shown else ""
        shown = row.variant
        model = row.model if len(protocols) == 1 else f"{row.model} ({row.protocol})"
        table.add_row(head, model, str(row.seeds), *(_number(row, name) for name in ("abs_rel", "delta1", "rmse")))
    return table


def _number(row: Row, name: str) -> str:
    if name not in row.mean:
        return "-"
    spread = row.spread[name]
    return f"{row.mean[name]:.4f}" + ("" if spread is None else f" ± {spread:.4f}")
