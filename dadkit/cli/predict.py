"""`dadkit predict`: depth maps for image files and videos."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from dadkit.cli.arguments import MODEL

if TYPE_CHECKING:
    from rich.console import Console

    from dadkit.interfaces import DepthModel
    from dadkit.prediction import Failure
    from dadkit.prediction.inputs import Inputs
    from dadkit.prediction.plan import Plan
    from dadkit.prediction.sparse import Sparse


DEFAULT_MODEL = "starter/small"

_NOTES = 20  # as many notes on single images are printed


def predict(
    paths: Annotated[
        list[str],
        typer.Argument(
            help="Image files, videos, folders (searched recursively), lists (.txt), tar shards, streams (rtsp://…), cameras."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option("--model", "-m", help=f"{MODEL}. Default: starter/small."),
    ] = None,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("predictions"),
    formats: Annotated[
        list[str] | None,
        typer.Option(
            "--format",
            "-f",
            help="npy, npz, png16, pfm, exr, color, side, controlnet, controlnet-robust, controlnet-zoe; several with commas, "
            "or repeated. Default: npy, png16, color, side.",
        ),
    ] = None,
    ply: Annotated[bool, typer.Option("--ply", help="Also a point cloud; needs metres and a focal length.")] = False,
    glb: Annotated[bool, typer.Option("--glb", help="Also a surface; needs metres and a focal length.")] = False,
    focal: Annotated[
        float | None, typer.Option(help="Focal length in pixels: for clouds, and models that take cameras.")
    ] = None,
    fov: Annotated[float | None, typer.Option(help="Horizontal field of view in degrees, instead of --focal.")] = None,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="A,B|FILE|none",
            help="Metres of an affine model: 1/(A*value + B) for disparity, A*value + B for depth (for clouds only); or a file "
            "of `dadkit calibrate`; none: not even the one stored beside the weights.",
        ),
    ] = None,
    beyond: Annotated[float | None, typer.Option(metavar="M", help="Clouds: leave out what is farther, such as sky.")] = None,
    sparse: Annotated[
        Path | None,
        typer.Option(
            "--sparse",
            metavar="PATH",
            help="Metres at some pixels: a depth map with holes or a list of points; or a folder with one for each picture.",
        ),
    ] = None,
    sparse_scale: Annotated[
        float | None, typer.Option(metavar="M", help="Metres a stored unit of --sparse: 0.001 for millimetres.")
    ] = None,
    see_through: Annotated[
        float | None, typer.Option(metavar="M", help="Drop points that are farther than a neighbour by more than this.")
    ] = None,
    completer: Annotated[
        str,
        typer.Option(
            help="How --sparse is used: align[:local=fill|poisson|knn|none,keep=exact,max_depth=…], or a run that trained one."
        ),
    ] = "align",
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one size that share a forward pass.")] = 1,
    resume: Annotated[
        bool, typer.Option(help="Leave results of the same name, made by the same model of the same image, as they are.")
    ] = True,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that dadkit did not write, except inputs.")
    ] = False,
    bits: Annotated[
        str,
        typer.Option(help="What 16-bit greyscale holds: 16, 14, 12, 10, or percentile (stretched, as for thermal cameras)."),
    ] = "16",
    max_megapixels: Annotated[float | None, typer.Option(min=0.001, help="Larger pictures are skipped. Default: 89.")] = None,
    tile: Annotated[
        int | None, typer.Option(min=64, help="Predict in square tiles of so many pixels, fitted to the whole and blended.")
    ] = None,
    frames: Annotated[
        bool, typer.Option("--frames", help="The pictures of a folder are frames of a film: common limits of colours.")
    ] = False,
    steady: Annotated[
        bool,
        typer.Option(
            "--steady", help="Films, --frames: bring each map to the one before by scale and shift; says what it changed."
        ),
    ] = False,
    seconds: Annotated[
        float | None, typer.Option(min=0.001, help="Films and streams: stop after so many seconds of the source.")
    ] = None,
    precision: Annotated[str, typer.Option(help="fp32, fp16, bf16 or fp64.")] = "fp32",
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Predict depth for images and videos: raw floats, 16-bit PNG with its range, colours, side by side, points.

    Images that cannot be read are skipped and named; the exit code is 3 if that happened. Nothing is written over a file that
    dadkit did not write, dadkit's own results are not read as images, and a command that was killed goes on where it was.

    Example: dadkit predict photos/ --model runs/quickstart --output depth
    """
    from rich.console import Console

    from dadkit.calibration import calibrated
    from dadkit.cli.arguments import split_model
    from dadkit.cli.output import several
    from dadkit.data.images import MAX_PIXELS
    from dadkit.errors import DataError, UsageError, did_you_mean
    from dadkit.interfaces import CalibratedModel
    from dadkit.loading import load_model, pick_device, set_precision
    from dadkit.prediction import DEFAULT, FORMATS, Lens, check_targets, find_inputs, identity, make_plan
    from dadkit.spaces import Space
    from dadkit.weights.sources import noted_files

    named = [name.strip() for text in formats or DEFAULT for name in text.split(",")]
    chosen = list(dict.fromkeys([*named, *(["ply"] if ply else []), *(["glb"] if glb else [])]))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown:
        near = did_you_mean(unknown[0], FORMATS, before="; ")
        raise UsageError(f"unknown format {', '.join(map(repr, unknown))}{near or '; choose from ' + ', '.join(FORMATS)}")
    pair, calibration = _pair(align)
    lens, depth_of_grey = Lens(focal, fov, pair, beyond), _bits(bits)
    console = Console(stderr=True)
    inputs = find_inputs(paths)
    if frames:
        inputs.images.sort(
            key=lambda job: [int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", str(job.stem))]
        )
    metres = None if sparse is None else _sparse(sparse, inputs, completer, sparse_scale, see_through)
    check_targets(inputs, output, chosen, overwrite=overwrite)
    model = model or _default(console)
    name, options = split_model(model)
    with noted_files() as weights:
        loaded = set_precision(load_model(name, **options), precision).to(pick_device(device))
    loaded, calibrated_by = calibrated(loaded, model, "none" if sparse or pair else calibration)
    settings = {
        "lens": lens,
        "bits": bits,
        "tile": tile,
        "precision": precision,
        "steady": steady,
    }
    more = {"beyond": beyond, "seconds": seconds, "frames": len(inputs.images) if frames else None}
    settings |= {key: value for key, value in more.items() if value is not None}  # results of earlier versions stay valid
    if isinstance(loaded, CalibratedModel):
        settings["metres"] = str(loaded.metres).replace(", power=1.0", "")  # as versions without a power wrote it
        console.print(f"metres by {calibrated_by} (--align none: without)", highlight=False, markup=False, soft_wrap=True)
    if metres is not None:
        settings |= metres.settings() | {"completer": completer}
    if steady and not frames and not inputs.films:
        console.print("--steady is for films, and for pictures with --frames: it changes nothing here", highlight=False)
    plan = make_plan(inputs, output, chosen, identity(model, weights, settings), resume=resume, together=frames and steady)
    _announce(inputs, plan, console)
    for odd in metres.warnings() if metres else []:
        console.print(f"careful: {odd}", style="yellow", highlight=False)
    given: dict[str, Any] = {"name": model, "batch_size": batch_size, "lens": lens}
    of_images = {
        "bits": depth_of_grey,
        "max_pixels": MAX_PIXELS if max_megapixels is None else round(1e6 * max_megapixels),
        "tile": tile,
        "sparse": metres,
        "films": inputs.images if frames else (),
        "steady": steady and frames,
    }
    of_films = {"steady": steady, "seconds": seconds}
    written, failures = _carry_out(loaded, plan, console, of_images, of_films, given)
    for failure in failures:
        console.print(
            f"skipped {failure.path}: {failure.reason}", style="yellow", highlight=False, markup=False, soft_wrap=True
        )
    space = loaded.spec.space if metres is None else Space.METRIC
    console.print(f"wrote {several(written, 'file')} to {output} ({space}: {_meaning(space)})", highlight=False)
    if failures:
        what = "images and films" if inputs.films else "images"
        raise DataError(f"{len(failures)} of {len(inputs.all)} {what} could not be read or written; see above")


def _default(console: Console) -> str:
    """Returns the model that the package carries, which is named since the user did not."""
    from dadkit.errors import UsageError
    from dadkit.plugin import PluginError, get_registry

    try:
        get_registry().resolve_first(("teacher", "student"), DEFAULT_MODEL)
    except PluginError as error:
        raise UsageError(f"no --model given, and {DEFAULT_MODEL} is not installed here: {error}") from error
    console.print(f"model: {DEFAULT_MODEL} (another one: --model; `dadkit teachers` lists them)", highlight=False)
    return DEFAULT_MODEL


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
    model: DepthModel, plan: Plan, console: Console, of_images: dict[str, Any], of_films: dict[str, Any], given: dict[str, Any]
) -> tuple[int, list[Failure]]:
    """Predict under a progress bar, say how fast it was; returns how many files were written and what could not be read.

    Args:
        of_images: arguments that only images have.
        of_films: arguments that only films have.
        given: arguments that images and films share.
    """
    import time

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from dadkit.cli.output import several
    from dadkit.errors import DataError
    from dadkit.prediction import Failure, Note, carry_out, predict_video

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("images", total=len(plan.images), visible=bool(plan.images))
        notes: list[Note] = []
        begun = time.perf_counter()
        written, failures = carry_out(
            model, plan, notes=notes, progress=lambda count: progress.advance(task, count), **of_images, **given
        )
        seconds, count, done = time.perf_counter() - begun, len(written), len(plan.images) - len(failures)
        for work in plan.films:
            task = progress.add_task(work.name, total=None)
            show = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: B023, E731
            plan.results.claim(work.files)
            try:
                count += len(
                    predict_video(
                        model,
                        work.job.path,
                        plan.output / work.name,
                        formats=work.formats,
                        live=work.job.live,
                        fingerprint=f"{work.fingerprint} {work.formats}",
                        note=lambda text: notes.append(Note(work.name, text)),  # noqa: B023
                        progress=show,
                        **of_films,
                        **given,
                    )
                )
            except DataError as error:
                failures.append(Failure(work.name, str(error)))
                continue
            plan.results.finish(work.name, work.fingerprint, work.files)
    for note in notes[:_NOTES]:
        console.print(f"{note.path}: {note.text}", highlight=False, markup=False, soft_wrap=True)
    if len(notes) > _NOTES:
        console.print(f"and {len(notes) - _NOTES} more such notes", highlight=False)
    if done:
        console.print(f"{several(done, 'image')} in {seconds:.1f} s: {done / seconds:.1f} images/s", highlight=False)
    return count, failures


def _sparse(path: Path, inputs: Inputs, completer: str, scale: float | None, see_through: float | None) -> Sparse:
    from dadkit.cli.arguments import split_model
    from dadkit.data.hints import find_hints
    from dadkit.errors import UsageError
    from dadkit.loading import load_completer
    from dadkit.prediction import Sparse

    if inputs.films:
        raise UsageError("--sparse is for pictures; predict the film's frames as pictures, each with its points")
    name, options = split_model(completer)
    return Sparse(load_completer(name, **options), find_hints(path, [job.stem for job in inputs.images]), scale, see_through)


def _bits(text: str) -> int | Literal["percentile"]:
    from dadkit.errors import UsageError

    if text == "percentile":
        return "percentile"
    if text.isdecimal() and 8 <= int(text) <= 16:
        return int(text)
    raise UsageError(f"--bits is a number from 8 to 16, or percentile, got '{text}'")


def _pair(align: str | None) -> tuple[tuple[float, float] | None, str | None]:
    """Returns what --align gives: two numbers, or a calibration's file."""
    from dadkit.prediction import CloudError

    if align is None or align == "none" or Path(align).expanduser().is_file():
        return None, align
    try:
        scale, shift = (float(word) for word in align.split(","))
    except ValueError as error:
        raise CloudError(
            f"--align needs two numbers with a comma between, or the file of a calibration; got {align!r}"
        ) from error
    return (scale, shift), None


def _meaning(space: str) -> str:
    return {
        "disparity": "larger is nearer, unknown scale and shift",
        "depth": "larger is farther, unknown scale and shift",
        "scale": "larger is farther, unknown scale",
        "metric": "metres, larger is farther",
    }[space]
