"""`dadkit demo`: a page that runs a model in the visitor's browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def demo(
    models: Annotated[
        list[str],
        typer.Argument(
            metavar="MODEL...", help="One or two (served: any number): runs, model.safetensors, exported .onnx, PLUGIN/NAME."
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page to write; it must not exist. Default: serve it on this machine."),
    ] = None,
    runtime: Annotated[
        Path | None,
        typer.Option(help="Folder of the npm package onnxruntime-web: the page then works offline and from the disk."),
    ] = None,
    online: Annotated[bool, typer.Option("--online", help="The page loads onnxruntime-web from jsdelivr.net instead.")] = False,
    webgpu: Annotated[
        bool, typer.Option("--webgpu", help="With --runtime: the page holds the runtime for graphics cards too, 9 MB more.")
    ] = False,
    title: Annotated[str, typer.Option(help="Heading of the page; by default the models' names.")] = "",
    precision: Annotated[str, typer.Option(help="Of models that are not exported yet: fp32, fp16, int8.")] = "fp16",
    images: Annotated[
        list[Path] | None, typer.Option(help="Photographs to check the exported file on; may be repeated.")
    ] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Where the page is served; 0 takes a free one.")] = 8642,
    device: Annotated[str, typer.Option(help="Of models that are served: auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Write one HTML page with a model in it, which runs in the visitor's own browser; or serve it with models of this machine.

    Visitors drop a picture or use the webcam, slide between picture and depth, read values, download a 16-bit PNG or NPY file,
    and turn a 3D view. With two models the panes show them side by side, with their times. No picture leaves the machine.
    The network runs by WebAssembly, or on the graphics card by WebGPU where page and browser have it.

    Without -o the page is served on loopback, with any models of this machine behind it, teachers too, until Ctrl-C.

    Example: dadkit demo runs/mine -o mine.html --runtime node_modules/onnxruntime-web
    """
    from dadkit.cli.arguments import split_model
    from dadkit.cli.output import note
    from dadkit.export.demo import RUNTIME_VERSION, DemoError, build_page, temporary_folder, web_file
    from dadkit.export.metadata import origin
    from dadkit.loading import load_model

    if output is None:
        _serve(models, port, device, title)
        return
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
        page = build_page(files, output, runtime=runtime, webgpu=webgpu, title=title)
    note(f"wrote {page} ({page.stat().st_size / 1e6:.1f} MB): open it in a browser, or put it on any static host")


def _serve(models: list[str], port: int, device: str, title: str) -> None:
    from dadkit.calibration import calibrated
    from dadkit.cli.arguments import short_names, split_model
    from dadkit.cli.output import note
    from dadkit.export.serve import DemoServer
    from dadkit.loading import load_model, pick_device

    different, loaded = list(dict.fromkeys(models)), []
    for title_of, text in zip(short_names(different), different, strict=True):
        name, options = split_model(text)
        model, _ = calibrated(load_model(name, **options), text)
        loaded.append((title_of, model.to(pick_device(device)).eval()))
    with DemoServer(loaded, port=port, title=title) as server:
        note(f"open {server.address} in a browser; Ctrl-C ends it")
        server.serve_forever()
