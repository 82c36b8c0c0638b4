"""`dadkit predict`: depth maps for image files and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dadkit.cli.arguments import PluginFile

if TYPE_CHECKING:
    from rich.console import Console

    from dadkit.interfaces import DepthModel
    from dadkit.prediction import Failure, Lens
    from dadkit.prediction.inputs import Inputs
    from dadkit.prediction.plan import Plan


def predict(
    paths: Annotated[
        list[Path], typer.Argument(help="Image files, videos, folders (searched recursively), lists (.txt), tar shards.")
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", help="A run's folder, a model.safetensors, or PLUGIN/NAME[:key=value,…].")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("predictions"),
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format", "-f", help="npy, npz, png16, pfm, exr, color, side; may be repeated. Default: npy, png16, color, side."
        ),
    ] = None,
    ply: Annotated[bool, typer.Option("--ply", help="Also a point cloud; needs metres and a focal length.")] = False,
    glb: Annotated[bool, typer.Option("--glb", help="Also a surface; needs metres and a focal length.")] = False,
    focal: Annotated[float | None, typer.Option(help="Focal length in pixels, for --ply and --glb.")] = None,
    fov: Annotated[float | None, typer.Option(help="Horizontal field of view in degrees, instead of --focal.")] = None,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="A,B", help="Makes an affine model metric: metres = 1/(A*value + B) for disparity, A*value + B for depth."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one size that share a forward pass.")] = 1,
    resume: Annotated[
        bool, typer.Option(help="Leave results of the same name, made by the same model of the same image, as they are.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that dadkit did not write, except inputs.")
    ] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    plugin: PluginFile = None,
) -> None:
    """Predict depth for images and videos: raw floats, 16-bit PNG with its range, colours, side by side, points.

    Images that cannot be read are skipped and named; the exit code is 3 if that happened. Nothing is written over a file that
    dadkit did not write, dadkit's own results are not read as images, and a command that was killed goes on where it was.

    Example: dadkit predict photos/ --model runs/quickstart --output depth
    """
    from rich.console import Console

    from dadkit.cli.arguments import split_model
    from dadkit.errors import DadkitError, DataError
    from dadkit.loading import load_model, pick_device
    from dadkit.prediction import DEFAULT, FORMATS, check_targets, find_inputs, identity, make_plan
    from dadkit.weights.used import noted_files

    chosen = list(dict.fromkeys([*(formats or DEFAULT), *(["ply"] if ply else []), *(["glb"] if glb else [])]))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown:
        raise DadkitError(f"unknown format {', '.join(map(repr, unknown))}; choose from {', '.join(FORMATS)}")
    lens = _lens(focal, fov, align)
    console = Console(stderr=True)
    inputs = find_inputs(paths)
    check_targets(inputs, output, chosen, overwrite=overwrite)
    name, options = split_model(model)
    with noted_files() as weights:
        loaded = load_model(name, **options).to(pick_device(device))
    plan = make_plan(inputs, output, chosen, identity(model, weights, {"lens": lens}), resume=resume)
    _announce(inputs, plan, console)
    written, failures = _carry_out(loaded, plan, console, name=model, batch_size=batch_size, lens=lens)
    for failure in failures:
        console.print(f"skipped {failure.path}: {failure.reason}", style="yellow", highlight=False)
    spec = loaded.spec
    console.print(f"wrote {written} files to {output} ({spec.space}: {_meaning(spec.space)})", highlight=False)
    if failures:
        raise DataError(f"{len(failures)} of {len(inputs.images)} images could not be read; see above")


def _announce(inputs: Inputs, plan: Plan, console: Console) -> None:
    """Say before it starts what is done and what is not."""
    lines = [inputs.summary()]
    if plan.done:
        lines.append(f"{plan.done} finished before by the same model, left as they are (--no-resume computes them again)")
    if plan.replaced:
        lines.append(f"{plan.replaced} with results of another model or other settings, which are replaced")
    for line in filter(None, lines):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _carry_out(
    model: DepthModel, plan: Plan, console: Console, *, name: str, batch_size: int, lens: Lens
) -> tuple[int, list[Failure]]:
    """Predict under a progress bar; returns how many files were written and what could not be read."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dadkit.prediction import carry_out, predict_video

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("images", total=len(plan.images), visible=bool(plan.images))
        written, failures = carry_out(
            model, plan, name=name, batch_size=batch_size, lens=lens, progress=lambda count: progress.advance(task, count)
        )
        count = len(written)
        for work in plan.films:
            task = progress.add_task(work.name, total=None)
            show = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: B023, E731
            plan.results.claim(work.files)
            count += len(
                predict_video(
                    model,
                    work.job.path,
                    plan.output / work.name,
                    name=name,
                    formats=work.formats,
                    batch_size=batch_size,
                    lens=lens,
                    progress=show,
                )
            )
            plan.results.finish(work.name, work.fingerprint, work.files)
    return count, failures


def _lens(focal: float | None, fov: float | None, align: str | None) -> Lens:
    from dadkit.prediction import CloudError, Lens

    if align is None:
        return Lens(focal, fov)
    try:
        scale, shift = (float(word) for word in align.split(","))
    except ValueError as error:
        raise CloudError(f"--align needs two numbers with a comma between, got {align!r}") from error
    return Lens(focal, fov, (scale, shift))


def _meaning(space: str) -> str:
    return {
        "disparity": "larger is nearer, unknown scale and shift",
        "depth": "larger is farther, unknown scale and shift",
        "metric": "metres, larger is farther",
    }[space]
