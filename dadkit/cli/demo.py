"""`dadkit demo`: a page that runs a model in the visitor's browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dadkit.cli.arguments import PluginFile


def demo(
    models: Annotated[
        list[str], typer.Argument(metavar="MODEL...", help="One or two: runs, model.safetensors, exported .onnx, PLUGIN/NAME.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The page to write; it must not exist.")],
    runtime: Annotated[
        Path | None,
        typer.Option(help="Folder of the npm package onnxruntime-web: the page then works offline and from the disk."),
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="The page loads onnxruntime-web from jsdelivr.net instead.")] = False,
    title: Annotated[str, typer.Option(help="Heading of the page; by default the models' names.")] = "",
    precision: Annotated[str, typer.Option(help="Of models that are not exported yet: fp32, fp16, int8.")] = "fp16",
    images: Annotated[
        list[Path] | None, typer.Option(help="Photographs to check the exported file on; may be repeated.")
    ] = None,
    plugin: PluginFile = None,
) -> None:
    """Write one HTML page with a model in it, which runs in the visitor's own browser.

    Visitors drop a picture or use the webcam, slide between picture and depth, read values, download a 16-bit PNG or NPY file,
    and turn a 3D view. With two models the panes show them side by side, with their times. No picture leaves the machine.

    Example: dadkit demo runs/mine -o mine.html --runtime node_modules/onnxruntime-web
    """
    from dadkit.cli.arguments import split_model
    from dadkit.cli.output import note
    from dadkit.export.demo import RUNTIME_VERSION, DemoError, build_page, temporary_folder, web_file
    from dadkit.export.metadata import origin
    from dadkit.loading import load_model

    if len(models) > 2:
        raise DemoError(f"a page compares two models at most; got {len(models)}")
    if (runtime is None) is not online:
        raise DemoError(
            "say where the page finds its runtime: --runtime FOLDER of the npm package onnxruntime-web "
            f"(npm pack onnxruntime-web@{RUNTIME_VERSION}), or --online"
        )
    with temporary_folder() as folder:
        files = []
        for number, text in enumerate(models):
            path, place = Path(text).expanduser(), Path(folder) / str(number)
            if path.suffix == ".onnx" and path.is_file():
                files.append(path)
                continue
            name, options = split_model(text)
            loaded = load_model(name, **options)
            files.append(web_file(loaded, place, precision=precision, source=origin(name), pictures=images or ()))
        page = build_page(files, output, runtime=runtime, title=title)
    note(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB): open it in a browser, or put it on any static host")
