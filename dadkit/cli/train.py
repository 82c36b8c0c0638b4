"""`dadkit train`: one run per YAML file, one table at the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dadkit.cli.output import INTERRUPTED, print_error, together

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from dadkit.config import RunConfig
    from dadkit.training.dryrun import StagePlan
    from dadkit.training.run import RunResult


def train(
    arguments: Annotated[
        list[str],
        typer.Argument(metavar="FILE... [KEY=VALUE]...", help="YAML files, and values that replace theirs (in every file)."),
    ],
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Throw away what an earlier run left in the run's folder, and begin anew.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing: build without memory, read two batches, print plan and memory.")
    ] = False,
) -> None:
    """Train: distil teachers into a student, as YAML files say.

    Several files are trained one after the other. A run that was stopped or killed goes on where it was when the same command
    is given again. Ctrl-C finishes the iteration and saves. On several GPUs: torchrun --nproc-per-node 8 -m dadkit train FILE

    Example: dadkit train configs/quickstart.yaml optim.lr=3e-4 name=faster
    """
    from rich.console import Console

    from dadkit.config.stages import split_arguments
    from dadkit.errors import UsageError
    from dadkit.threads import keep_memory

    keep_memory()
    files, overrides = split_arguments(arguments)
    if not files:
        raise UsageError("nothing to train: give a YAML file, for instance `dadkit train configs/quickstart.yaml`")
    with together() as (main, several, reports):
        console = Console(quiet=not main)
        runs, failures = _load(files, overrides, reports)
        results: list[RunResult] = []
        for file, run in runs.items():
            if several and failures:  # the processes are no longer at the same place
                break
            console.rule(f"{run.name} ({file})" if len(files) > 1 else run.name, align="left")
            code = _plan(run, console) if dry_run else _train(run, console, results, reports, fresh=fresh)
            if code:
                failures[file] = code
            if code == INTERRUPTED:  # the user wants to stop, not to see the next run begin
                break
        if results:
            console.print(_table(results))
    if failures:
        codes = list(failures.values())
        raise typer.Exit(INTERRUPTED if INTERRUPTED in codes else codes[0])


def _load(
    files: list[str], overrides: list[str], reports: Callable[[Exception], bool]
) -> tuple[dict[str, RunConfig], dict[str, int]]:
    """Returns the runs that can be read, all mistakes of the others printed before anything is trained; and exit codes of
    those.
    """
    from dadkit.config import load_run
    from dadkit.errors import DadkitError

    runs: dict[str, RunConfig] = {}
    failures: dict[str, int] = {}
    folders: dict[Path, str] = {}
    for file in dict.fromkeys(files):
        try:
            run = load_run(file, overrides)
            folder = Path(run.output, run.name)
            _check_alone(file, folder, folders)
        except DadkitError as error:
            if reports(error):
                print_error(error)
            failures[file] = error.exit_code
            continue
        runs[file], folders[folder] = run, file
    return runs, failures


def _check_alone(file: str, folder: Path, others: dict[Path, str]) -> None:
    from dadkit.errors import UsageError

    if folder in others:
        raise UsageError(f"{others[folder]} and {file} would both be trained into {folder}; give them different names")


def _train(
    run: RunConfig, console: Console, results: list[RunResult], reports: Callable[[Exception], bool], *, fresh: bool
) -> int:
    """Train one run; 0, or the exit code of what the user can put right."""
    from dadkit.errors import DadkitError
    from dadkit.training.run import train as train_run

    try:
        results.append(train_run(run, fresh=fresh, console=console))
    except DadkitError as error:
        if reports(error):
            print_error(error)
        return error.exit_code
    return 0


def _plan(run: RunConfig, console: Console) -> int:
    """Print what a run would do; 0, or the exit code of what the user can put right."""
    from dadkit.errors import DadkitError

    try:
        _print_plan(run, console)
    except DadkitError as error:
        print_error(error)
        return error.exit_code
    return 0


def _table(results: list[RunResult]) -> Table:
    """Returns a row per evaluated model, or per run where nothing was evaluated."""
    from rich.table import Table

    from dadkit.training.progress import duration

    sets = [{"": result.evaluations, **result.further} for result in results]
    protocols = dict.fromkeys(one.protocol for found in sets for evaluations in found.values() for one in evaluations)
    table = Table(title="Results", caption=f"protocol: {', '.join(protocols)}" if protocols else None)
    for heading in ("run", "time", "model"):
        table.add_column(heading)
    for heading in ("AbsRel ↓", "δ1 ↑", "RMSE ↓"):
        table.add_column(heading, justify="right")
    if any(result.further for result in results):
        table.add_column("set")
    if len(protocols) > 1:
        table.add_column("protocol")
    for result, found in zip(results, sets, strict=True):
        head = [result.name, duration(result.seconds)]
        if not result.evaluations:
            table.add_row(*head, "not evaluated")
        for name, evaluations in found.items():
            for evaluation in evaluations:
                mean = evaluation.mean
                values = [f"{mean[metric]:.4f}" if metric in mean else "–" for metric in ("abs_rel", "delta1", "rmse")]
                last = [name] if any(result.further for result in results) else []
                last += [evaluation.protocol] if len(protocols) > 1 else []
                table.add_row(*head, evaluation.model, *values, *last)
                head = ["", ""]
        table.add_section()
    return table


def _print_plan(run: RunConfig, console: Console) -> None:
    """Print the plan of every stage of a run; raises what training would stop at before its first iteration."""
    from dadkit.training.dryrun import plan_run

    def say(text: str, style: str | None = None) -> None:
        console.print(text, style=style, highlight=False, markup=False, soft_wrap=True)

    say(f"{run.name}: seed {run.seed}, device {run.device}, into {run.output}/{run.name}")
    for stage in plan_run(run):
        say(f"\n{stage.name}: {stage.iterations} iterations of {_images(stage)}", "bold")
        for model in stage.models:
            trained = f", {model.trained / 1e6:.2f} M trained" if model.role == "student" else ""
            say(f"  {model.role:<10} {model.name}, {model.space}, {model.parameters / 1e6:.2f} M parameters{trained}")
        say(f"  {'total':<10} {' + '.join(f'{weight:g} {name}' for name, weight in stage.terms.items())}")
        for name, shape in stage.shapes.items():
            say(f"  {name:<26} {' x '.join(map(str, shape))}")
        say(f"  reading    {', '.join(f'{seconds:.2f} s' for seconds in stage.seconds)} for the first batches, in one process")
        for name, reason in stage.unreadable.items():
            say(f"  unreadable {name}: {reason}", "yellow")
        _say_memory(stage, say)
        for text in stage.conversions:
            say(f"  conversion {text}")
        for doubt in stage.unsound:
            say(f"  unsound, and allowed: {doubt}", "yellow")
        say(f"  licences   {', '.join(stage.licenses)}")
    if run.evaluation is not None:
        say(f"\nevaluation: {run.evaluation.data.name} under '{run.evaluation.protocol}'")


def _images(stage: StagePlan) -> str:
    unlabelled, labelled = stage.images
    parts = [f"{count} {kind}" for count, kind in ((unlabelled, "unlabelled"), (labelled, "labelled")) if count]
    micro = f", {stage.micro} at a time" if stage.micro < unlabelled + labelled else ""
    return f"{' + '.join(parts)} images{micro}"


def _say_memory(stage: StagePlan, say: Callable[..., None]) -> None:
    memory = stage.memory
    student, teachers = ("unknown" if peak is None else _bytes(peak) for peak in (memory.student, memory.teachers))
    beside = f" or a teacher's {teachers}, one after the other" if memory.teachers != 0 else ""
    say(
        f"  memory     about {_bytes(memory.total)}: models {_bytes(memory.models)}, gradients and optimiser "
        f"{_bytes(memory.optimiser)}, the student's passes {student}{beside}; losses and libraries come on top"
    )
    if memory.spread and memory.processes > 1:
        say(f"             of frozen models' {_bytes(memory.spread)}, each of {memory.processes} processes keeps a part")
    elif memory.spread:
        say(
            f"             {_bytes(memory.spread)} of it are spread over the processes of torchrun; here they are counted whole"
        )
    if memory.reason:
        say(f"             unknown, because the model cannot be run on tensors without values: {memory.reason}", "yellow")


def _bytes(number: float) -> str:
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if number < 1024 or unit == ("B", "KiB", "MiB", "GiB", "TiB")[-1]:
            break
        number /= 1024
    return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.1f} {unit}"
