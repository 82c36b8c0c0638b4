"""`dadkit predict`: depth maps for image files and videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dadkit.cli.arguments import PluginFile

if TYPE_CHECKING:
    from dadkit.prediction import Failure, Lens


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files, folders of images (searched recursively), videos.")],
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
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
    plugin: PluginFile = None,
) -> None:
    """Predict depth for images and videos: raw floats, 16-bit PNG with its range, colours, side by side, points.

    Images that cannot be read are skipped and named; the exit code is 3 if that happened.

    Example: dadkit predict photos/ --model runs/quickstart --output depth
    """
    from rich.console import Console
    from rich.progress import Progress

    from dadkit.cli.arguments import split_model
    from dadkit.errors import DadkitError, DataError
    from dadkit.loading import load_model, pick_device
    from dadkit.prediction import DEFAULT, FORMATS, VIDEOS, predict_files, predict_video

    chosen = list(dict.fromkeys([*(formats or DEFAULT), *(["ply"] if ply else []), *(["glb"] if glb else [])]))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown:
        raise DadkitError(f"unknown format {', '.join(map(repr, unknown))}; choose from {', '.join(FORMATS)}")
    lens = _lens(focal, fov, align)
    console = Console(stderr=True)
    name, options = split_model(model)
    loaded = load_model(name, **options).to(pick_device(device))
    videos = [path for path in paths if path.suffix.lower() in VIDEOS and path.is_file()]
    images = [path for path in paths if path not in videos]
    written: list[Path] = []
    failures: list[Failure] = []
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("predict", total=None)
        show = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: E731
        if images or not videos:
            written, failures = predict_files(
                loaded, images, output, name=model, formats=chosen, batch_size=batch_size, lens=lens, progress=show
            )
        for path in videos:
            own = {"name": model, "formats": chosen, "batch_size": batch_size, "lens": lens, "progress": show}
            written += predict_video(loaded, path, output, **own)  # type: ignore[arg-type]
    for failure in failures:
        console.print(f"skipped {failure.path}: {failure.reason}", style="yellow", highlight=False)
    spec = loaded.spec
    console.print(f"wrote {len(written)} files to {output} ({spec.space}: {_meaning(spec.space)})", highlight=False)
    if failures:
        raise DataError(f"{len(failures)} of {len(failures) + len(written) // len(chosen)} images could not be read; see above")


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
