"""`dadkit predict`: depth maps for image files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def predict(
    paths: Annotated[list[Path], typer.Argument(help="Image files, and folders of images (searched recursively).")],
    model: Annotated[str, typer.Option("--model", "-m", help="A run's folder, a model.safetensors, or PLUGIN/NAME.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results.")] = Path("predictions"),
    formats: Annotated[
        list[str] | None,
        typer.Option("--format", "-f", help="npy, png16, color, side; may be repeated. Default: all four."),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Images of one size that share a forward pass.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1.")] = "auto",
) -> None:
    """Predict depth for images: raw floats, 16-bit PNG with its range, colours, side by side.

    Images that cannot be read are skipped and named; the exit code is 3 if that happened.

    Example: dadkit predict photos/ --model runs/quickstart --output depth
    """
    from rich.console import Console
    from rich.progress import Progress

    from dadkit.errors import DadkitError, DataError
    from dadkit.loading import load_model, pick_device
    from dadkit.prediction import FORMATS, predict_files

    chosen = list(dict.fromkeys(formats or FORMATS))
    unknown = [name for name in chosen if name not in FORMATS]
    if unknown:
        raise DadkitError(f"unknown format {', '.join(map(repr, unknown))}; choose from {', '.join(FORMATS)}")
    console = Console(stderr=True)
    loaded = load_model(model).to(pick_device(device))
    with Progress(console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("predict", total=None)
        written, failures = predict_files(
            loaded,
            paths,
            output,
            name=model,
            formats=chosen,
            batch_size=batch_size,
            progress=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for failure in failures:
        console.print(f"skipped {failure.path}: {failure.reason}", style="yellow", highlight=False)
    spec = loaded.spec
    console.print(f"wrote {len(written)} files to {output} ({spec.space}: {_meaning(spec.space)})", highlight=False)
    if failures:
        raise DataError(f"{len(failures)} of {len(failures) + len(written) // len(chosen)} images could not be read; see above")


def _meaning(space: str) -> str:
    return {
        "disparity": "larger is nearer, unknown scale and shift",
        "depth": "larger is farther, unknown scale and shift",
        "metric": "metres, larger is farther",
    }[space]
