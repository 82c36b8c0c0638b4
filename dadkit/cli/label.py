"""`dadkit label`: let teachers label images once, for students that are trained later."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dadkit.cli.arguments import MODEL, SIZE, read_size
from dadkit.cli.output import several

if TYPE_CHECKING:
    from rich.console import Console

    from dadkit.labelling import Plan, Settings
    from dadkit.labelling.job import Executor


def label(
    data: Annotated[list[str] | None, typer.Argument(help="data.root=…, and other options of the dataset `images`.")] = None,
    teachers: Annotated[
        list[str] | None,
        typer.Option(
            "--teacher",
            "-t",
            help=f"{MODEL}, or import:root=…,encoding=…,space=…; may be repeated.",
        ),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", help="Folder, or s3://… or gs://…, of the labels.")] = "labels",
    executor: Annotated[str, typer.Option(help="local or ray.")] = "local",
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes or actors. Default: one a GPU. 0 labels in this process.")
    ] = None,
    codec: Annotated[str, typer.Option(help="png12, png16 or zstd.")] = "png12",
    size: Annotated[
        str | None,
        typer.Option(metavar=SIZE, help="The teacher sees whole pictures at this size. Default: its own policy."),
    ] = None,
    scores: Annotated[str, typer.Option(help="flip, agree, or both with a comma; each costs time.")] = "",
    views: Annotated[str, typer.Option(help="whole, or patches: a grid of squares at native detail besides.")] = "whole",
    patch_size: Annotated[int, typer.Option(min=1, help="Side of a patch in pixels of the image.")] = 560,
    overlap: Annotated[int, typer.Option(min=0, help="Pixels that neighbouring patches share at least.")] = 56,
    unit: Annotated[int, typer.Option(min=1, help="Images a unit: what a killed worker loses.")] = 1000,
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16 or fp64.")] = "fp32",
    source_license: Annotated[str, typer.Option("--source-license", help="Terms of the images, copied into records.")] = "",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Images of one size that share a forward pass. Default: 8, and 2 on a CPU.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="Threads a worker that read ahead, and as many that encode.")] = 2,
    max_error_rate: Annotated[float, typer.Option(min=0, max=1, help="Stops when more images than this are broken.")] = 0.2,
    tries: Annotated[int, typer.Option(min=1, help="Workers that a unit may lose before it is given up.")] = 3,
    address: Annotated[str, typer.Option(help="Address of the Ray cluster.")] = "auto",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Label eight images and say what all would cost.")] = False,
    verify: Annotated[bool, typer.Option("--verify", help="Read and hash everything that is labelled.")] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Write a manifest of what is labelled now; sweep leftovers.")
    ] = False,
    report: Annotated[Path | None, typer.Option(help="Write a page with the best, worst and duplicate labels.")] = None,
) -> None:
    """Label images with one or several teachers: resumable, in shards, each label once, with its provenance.

    The same command goes on where a killed one was. Several on one folder share the work. Train from the labels with the
    dataset `labels`. Broken images are recorded; exit code 3 if units were given up or too many images are broken.

    Example: dadkit label data.root=photos/ --teacher starter/small -o labels
    """
    from dataclasses import replace

    from rich.console import Console

    console = Console(stderr=True)
    if verify or compact or report:
        _keep_up(output, console, verify=verify, compact=compact, report=report)
        return
    settings = replace(
        _settings(data or [], teachers or [], codec, size, scores, unit, precision, source_license),
        views=views,
        patch_size=patch_size,
        overlap=overlap,
    )
    how = _executor(executor, workers, device, batch_size, threads, address)
    if dry_run:
        _dry_run(output, settings, how, console)
    else:
        _label(output, settings, how, console, max_error_rate=max_error_rate, max_tries=tries)


def _settings(
    data: list[str], teachers: list[str], codec: str, size: str | None, scores: str, unit: int, precision: str, terms: str
) -> Settings:
    from dadkit.cli.arguments import split_model
    from dadkit.config.stages import parse_assignments
    from dadkit.data.store import is_address
    from dadkit.errors import UsageError
    from dadkit.labelling import Settings

    options = parse_assignments(data)
    images: Any = options.get("data")
    if set(options) != {"data"} or not isinstance(images, dict) or "root" not in images:
        raise UsageError("say what is to be labelled: data.root=FOLDER (a folder, a list, tar shards)")
    known = ("root", "extensions", "min_size", "max_pixels", "min_side", "bits", "intrinsics")
    unknown = [name for name in images if name not in known]
    if unknown:
        raise UsageError(f"unknown option data.{unknown[0]}; images have {', '.join(known)}")
    roots = images["root"] if isinstance(images["root"], list) else [images["root"]]
    absolute = [str(root) if is_address(root) else str(Path(str(root)).expanduser().absolute()) for root in roots]
    images["root"] = absolute if isinstance(images["root"], list) else absolute[0]
    if "intrinsics" in images:
        images["intrinsics"] = str(Path(str(images["intrinsics"])).expanduser().absolute())
    named = [dict(zip(("name", "options"), split_model(text), strict=True)) for text in teachers]
    wanted = [word for word in scores.split(",") if word]
    return Settings(images, named, codec, read_size(size), precision, wanted, unit, terms)


def _executor(kind: str, workers: int | None, device: str, batch_size: int | None, threads: int, address: str) -> Executor:
    from dadkit.errors import UsageError
    from dadkit.labelling.job import Executor
    from dadkit.plugin import get_registry

    if kind not in ("local", "ray"):
        raise UsageError(f"--executor is local or ray, got '{kind}'")
    return Executor(kind, workers, device, batch_size, threads, get_registry().file, address)  # type: ignore[arg-type]


def _label(output: str, settings: Settings, how: Executor, console: Console, *, max_error_rate: float, max_tries: int) -> None:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dadkit.errors import DataError
    from dadkit.labelling.job import label

    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.speed:.1f}/s"), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=600) as progress:
        task = progress.add_task("", total=None, start=False)

        def started(plan: Plan, done: set[int]) -> None:
            before = round(plan.images * len(done) / max(1, plan.units))
            what = f"{several(plan.images, 'image')} in {several(plan.units, 'unit')}"
            console.print(f"{what}, {len(done)} of them finished before; plan {plan.hash[:12]}", highlight=False)
            progress.update(task, total=plan.images, completed=before)
            progress.start_task(task)

        outcome = label(
            output,
            settings,
            how,
            max_error_rate=max_error_rate,
            max_tries=max_tries,
            started=started,
            finished=lambda record: progress.advance(task, record["labels"] + len(record["errors"])),
        )
    speed = outcome.labels / outcome.seconds if outcome.seconds else 0
    console.print(
        f"{outcome.labels} labels in {outcome.seconds:.1f} s: {speed:.1f} images/s; they are in {output}", highlight=False
    )
    if outcome.errors:
        told = ", ".join(f"{count} {kind}" for kind, count in outcome.errors.most_common())
        console.print(
            f"{several(outcome.errors.total(), 'image')} could not be labelled ({told}); the records name them", style="yellow"
        )
    if outcome.failed:
        unit, text = next(iter(outcome.failed.items()))
        raise DataError(
            f"{several(len(outcome.failed), 'unit')} given up after {max_tries} workers each (see {output}/failed); the same "
            f"command tries them again. Unit {unit}: {text.strip()}"
        )


def _dry_run(output: str, settings: Settings, how: Executor, console: Console) -> None:
    from dadkit.data.store import open_store
    from dadkit.labelling import open_plan
    from dadkit.labelling.job import estimate

    open_plan(open_store(output), settings)
    cost = estimate(settings, how)
    console.print(
        f"{several(cost.images, 'image')} in {several(cost.units, 'unit')} of at most {settings.unit}", highlight=False
    )
    for codec, size in cost.bytes.items():
        console.print(f"{codec}: {size / 1e12:.3g} TB ({size / cost.images / 1024:.0f} KiB an image)", highlight=False)
    hours = cost.seconds / 3600
    console.print(
        f"{hours:.3g} hours of one worker on this machine ({cost.images / cost.seconds:.1f} images/s)", highlight=False
    )
    console.print(f"{cost.requests} writes to a bucket; {cost.broken} of 8 images could not be labelled", highlight=False)


def _keep_up(output: str, console: Console, *, verify: bool, compact: bool, report: Path | None) -> None:
    from dadkit.data.store import open_store
    from dadkit.errors import DataError
    from dadkit.labelling import compact as write_manifest
    from dadkit.labelling import finished_units, open_plan, sweep
    from dadkit.labelling import verify as check

    store = open_store(output)
    plan = open_plan(store)
    if plan is None:
        raise DataError(f"{output} holds no labels: there is no plan.json")
    if compact:
        manifest, left = write_manifest(store, plan), sweep(store)
        console.print(
            f"manifest {manifest.number}: {len(manifest.units)} of {plan.units} units, {int(manifest.labels.sum())} labels; "
            f"{left} leftovers removed",
            highlight=False,
        )
    if report:
        from dadkit.labelling.page import write_page

        write_page(output, report)
        console.print(f"wrote {report}", highlight=False)
    if verify:
        wrong = check(store, plan)
        for line in wrong:
            console.print(line, style="red", highlight=False, markup=False)
        if wrong:
            raise DataError(
                f"{len(wrong)} things are wrong in {output}; remove the records of these units, in a bucket manifests/ too, "
                "and label again"
            )
        console.print(
            f"{len(finished_units(store, plan.units))} of {plan.units} units are finished, and all of them are whole",
            highlight=False,
        )
