"""`dadkit train --dry-run`: what a run would do, printed."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from rich.console import Console

    from dadkit.config import RunConfig
    from dadkit.training.dryrun import StagePlan

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def print_plan(run: RunConfig, console: Console) -> None:
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
        say(f"             unknown is what cannot be run without values: {memory.reason}", "yellow")


def _bytes(number: float) -> str:
    for unit in _UNITS:
        if number < 1024 or unit == _UNITS[-1]:
            break
        number /= 1024
    return f"{number:.0f} {unit}" if number >= 100 or unit == "B" else f"{number:.1f} {unit}"
