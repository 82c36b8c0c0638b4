"""`dadkit evaluate`: models on a labelled dataset under a named protocol."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dadkit.cli.arguments import MODEL

WRITTEN = ("cache", "films.json", "evaluation.json", "evaluation.csv", "evaluation.jpg", "evaluation.html")
"""What an evaluation leaves in its folder."""

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rich.progress import Progress

    from dadkit.evaluation import Evaluation, EvaluationPlan, Protocol


def evaluate(
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the dataset, for instance split=test.")
    ] = None,
    model: Annotated[
        list[str],
        typer.Option("--model", "-m", help=f"{MODEL}; may be repeated."),
    ] = [],  # noqa: B006  (typer wants the default here and never mutates it)
    dataset: Annotated[
        str, typer.Option("--dataset", "-d", help="A labelled dataset; `dadkit datasets` lists them.")
    ] = "procedural",
    root: Annotated[str | None, typer.Option("--root", help="The dataset's folder; the same as root=….")] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="Name of the protocol, or a YAML file; `dadkit protocols` lists them.")
    ] = "affine-disparity",
    completer: Annotated[
        list[str] | None,
        typer.Option(
            help="For protocols with points: what brings maps to metres, align (the default), refine:…, a run; may be repeated."
        ),
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many samples.")] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images per forward pass.")] = 8,
    processes: Annotated[int, typer.Option(min=1, help="Processes that share the images of each model.")] = 1,
    trivial: Annotated[bool, typer.Option("--trivial", help="Also evaluate a vertical ramp.")] = False,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Folder for evaluation.json, .csv, .jpg, .html and the cache.")
    ] = Path("evaluation"),
    precision: Annotated[
        str, typer.Option(help="fp32, fp16, bf16 or fp64; another than fp32 stands in the row's name.")
    ] = "fp32",
    fresh: Annotated[bool, typer.Option("--fresh", help="Measure again what an earlier call has measured.")] = False,
    report: Annotated[bool, typer.Option(help="Write evaluation.html.")] = True,
    figure: Annotated[
        list[str] | None,
        typer.Option("--figure", help="A figure for the report: alignment, crops, normalisation; may be repeated."),
    ] = None,
    films: Annotated[
        bool, typer.Option("--films", help="Measure how steady models are over the frames of each folder, in order.")
    ] = False,
    poses: Annotated[
        str | None,
        typer.Option(help="With --films: files of 4 x 4 poses, camera to world, below the root, for instance {key}_pose.txt."),
    ] = None,
    qualitative: Annotated[
        Path | None, typer.Option(help="A folder of images; the report shows every model's map of each (no truth needed).")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Evaluate models beside each other; every number is printed with its protocol.

    An evaluation that was interrupted goes on where it was: rows are kept in OUTPUT/cache, by model, protocol and dataset.

    Example: dadkit evaluate --model runs/quickstart --dataset procedural split=test count=64
    """
    from dadkit.cli.arguments import short_names, split_model
    from dadkit.cli.output import note, print_table, warn
    from dadkit.config.schema import DatasetConfig, EvaluationConfig
    from dadkit.config.stages import parse_assignments
    from dadkit.errors import UsageError
    from dadkit.evaluation import EvaluationPlan
    from dadkit.loading import load_model, pick_device, set_precision
    from dadkit.report.evaluation import FIGURES, check_figures, write_evaluation_report
    from dadkit.results import claim
    from dadkit.threads import keep_memory

    keep_memory()
    if not model:
        raise UsageError("nothing to evaluate; give --model RUN or --model PLUGIN/NAME, several times to compare")
    figures = list(dict.fromkeys(figure or []))
    unknown = [name for name in figures if name not in FIGURES]
    if unknown:
        raise UsageError(f"unknown figure {', '.join(map(repr, unknown))}; choose from {', '.join(FIGURES)}")
    given = parse_assignments(options or []) | ({} if root is None else {"root": root})
    config = EvaluationConfig(
        data=DatasetConfig(name=dataset, options=given),
        protocol=protocol,
        limit=limit,
        batch_size=batch_size,
        trivial=trivial,
    )
    plan = EvaluationPlan.resolve(config)
    chosen = plan.protocol
    check_figures(figures, chosen)
    target = pick_device(device)
    different = list(dict.fromkeys(model))
    end = "" if precision == "fp32" else f" ({precision})"  # numbers change with it, so the row says so
    named = {name + end: split_model(text) for name, text in zip(short_names(different), different, strict=True)}
    models = {name: set_precision(load_model(path, **own), precision).to(target) for name, (path, own) in named.items()}
    by: dict[str, tuple[str, dict[str, Any]]] = {}
    if chosen.points is not None:
        different = list(dict.fromkeys(completer or ["align"]))
        by = {name: split_model(text) for name, text in zip(short_names(different), different, strict=True)}
        models = _completed(models, by)
    elif completer:
        raise UsageError(f"--completer is for protocols with points; '{chosen.name}' has none. `dadkit protocols` lists them")
    summary = output / "evaluation.json"
    if poses is not None and not films:
        raise UsageError("--poses is for --films")
    claim(output, WRITTEN, known=summary.is_file() and "protocol_in_words" in summary.read_text(encoding="utf-8"))
    if fresh:
        _forget(output / "cache")
    if films:
        _films(plan, models, output, poses, Path(given["root"]) if "root" in given else None, batch_size, limit)
        return
    workers = None if processes == 1 else (processes, str(target), precision)
    evaluations = _measure(plan, output, models, (named, by), workers)
    print_table(*_rows(evaluations, chosen))
    for doubt in filter(None, (evaluation.doubt for evaluation in evaluations if evaluation.model in models)):
        warn(doubt)
    note(f"{dataset}: {chosen.summary}")
    if chosen.datasets and chosen.dataset is None:
        known = ", ".join(chosen.datasets)
        note(f"the protocol '{chosen.name}' has values of its own for {known}; for '{dataset}' its general ones were used")
    if report:
        note(f"report: {write_evaluation_report(output, plan, models, figures=figures, qualitative=qualitative)}")


def _completed(models: Mapping[str, Any], by: Mapping[str, tuple[str, dict[str, Any]]]) -> dict[str, Any]:
    from dadkit.evaluation.completion import Completed
    from dadkit.loading import load_completer

    completers = {name: load_completer(path, **own) for name, (path, own) in by.items()}
    return {f"{row} + {end}": Completed(model, made) for row, model in models.items() for end, made in completers.items()}


def _films(
    plan: EvaluationPlan,
    models: Mapping[str, Any],
    output: Path,
    poses: str | None,
    root: Path | None,
    batch_size: int,
    limit: int | None,
) -> None:
    import json

    from dadkit.cli.output import note, print_table
    from dadkit.errors import UsageError
    from dadkit.evaluation.films import FILM_METRICS, evaluate_films, read_pose
    from dadkit.files import write_text
    from dadkit.results import claim

    if poses is not None and (root is None or "{key}" not in poses):
        raise UsageError("--poses needs {key} in its name, and root=… below which the files are")
    claim(output, ["films.json"])
    folder = Path() if root is None else root if root.is_dir() else root.parent
    dataset, rows, results = plan.open(), [], {}
    for name, model in models.items():
        scores = evaluate_films(
            model,
            dataset,
            poses=(lambda key: None) if poses is None else lambda key: read_pose(folder / poses.replace("{key}", key)),
            batch_size=batch_size,
            limit=limit,
        )
        results[name] = [{"film": s.film, "frames": s.frames, **s.metrics} for s in scores]
        measured = {m: [s.metrics[m] for s in scores if m in s.metrics] for m in FILM_METRICS}
        cells = [f"{sum(values) / len(values):.4f}" if values else "-" for values in measured.values()]
        rows.append([name, *cells, str(len(scores)), str(sum(s.frames for s in scores))])
    write_text(output / "films.json", json.dumps({"metrics": FILM_METRICS, "models": results}, indent=2) + "\n")
    print_table(["model", *FILM_METRICS, "films", "frames"], rows)
    note("each film is aligned once, all frames together; means over films. tae and opw need cameras and poses")


def _measure(
    plan: EvaluationPlan,
    output: Path,
    models: Mapping[str, Any],
    named: tuple[Mapping[str, tuple[str, dict[str, Any]]], Mapping[str, tuple[str, dict[str, Any]]]],
    workers: tuple[int, str, str] | None,
) -> list[Any]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dadkit.evaluation import evaluate_run

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        show = _progress(progress, plan.limit)
        work = None if workers is None else _workers(plan, output, named, workers, show)
        return evaluate_run(plan, output, models, progress=show, cache=output / "cache", workers=work)


def _progress(progress: Progress, total: int | None) -> Callable[[str, int], None]:
    tasks: dict[str, Any] = {}

    def show(name: str, done: int) -> None:
        if name not in tasks:
            tasks[name] = progress.add_task(name, total=total)
        progress.update(tasks[name], completed=done)

    return show


def _workers(
    plan: EvaluationPlan,
    output: Path,
    named: tuple[Mapping[str, tuple[str, dict[str, Any]]], Mapping[str, tuple[str, dict[str, Any]]]],
    workers: tuple[int, str, str],
    show: Callable[[str, int], None],
) -> Callable[[str, str, str], None]:
    from dadkit.evaluation.run import Job, run_workers
    from dadkit.plugin import get_registry

    processes, device, precision = workers

    def work(name: str, fingerprint: str, key: str) -> None:
        row, _, end = name.rpartition(" + ") if named[1] else (name, "", "")
        path, own = named[0][row]
        completer, options = named[1].get(end, (None, {}))
        job = Job(
            model=path,
            model_options=own,
            completer=completer,
            completer_options=options,
            plan=plan,
            cache=output / "cache",
            key=key,
            fingerprint=fingerprint,
            processes=processes,
            precision=precision,
            plugin=get_registry().file,
            device=device,
        )
        run_workers(job, progress=lambda done: show(name, done))

    return work


def _forget(cache: Path) -> None:
    for path in cache.glob("*.jsonl"):
        path.unlink()


_USUAL = ("abs_rel", "delta1", "rmse")


def _rows(evaluations: Sequence[Evaluation], protocol: Protocol) -> tuple[list[str], list[list[str]]]:
    """Headings and a row per model: the protocol's first metric with its 95 % interval and median, the usual others, how many
    images were measured, skipped and failed, where cameras came from, crop, floor, protocol. ``evaluation.csv`` has everything
    that was measured.
    """
    from dadkit.evaluation.intervals import bootstrap_mean
    from dadkit.report.page import heading, in_words

    first = protocol.metrics[0]
    others = [name for name in protocol.metrics[1:] if name in _USUAL] or list(protocol.metrics[1:3])
    headings = ["model", heading(first), "95 %", "median", *map(heading, others), "images", "skipped", "failed"]
    with_cameras = any(e.cameras for e in evaluations)
    rows = []
    for e in evaluations:
        interval = bootstrap_mean([image.metrics[first] for image in e.images])
        cells = [e.model, f"{e.mean[first]:.4f}", f"{interval.low:.4f}-{interval.high:.4f}", f"{e.median[first]:.4f}"]
        cells += [f"{e.mean[name]:.4f}" for name in others]
        counts = [str(len(found)) if found else "" for found in (e.images, e.skipped, e.failed)]
        where = [in_words(e.cameras)] if with_cameras else []
        rows.append([*cells, *counts, *where, e.crop, e.floor, e.protocol])
    return [*headings, *(["cameras"] if with_cameras else []), "crop", "floor", "protocol"], rows
