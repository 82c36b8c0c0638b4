"""`dadkit bench`: how fast models are, by several runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dadkit.cli.arguments import MODEL, SIZE, read_size


def bench(
    models: Annotated[list[str], typer.Argument(metavar="MODEL...", help=f"{MODEL}.")],
    backend: Annotated[
        list[str] | None,
        typer.Option("--backend", "-b", help="eager, compile, onnx, openvino; may be repeated. Default: eager."),
    ] = None,
    size: Annotated[str | None, typer.Option(metavar=SIZE, help="What the network sees; default: each model's own.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="Processor threads.")] = 1,
    runs: Annotated[int, typer.Option(min=1, help="Measured calls of each row, after a warm-up.")] = 20,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Images with true depth: AbsRel of every row, e.g. pairs:root=mine,…"),
    ] = None,
    protocol: Annotated[str, typer.Option(help="With --data: see `dadkit protocols`.")] = "affine-disparity",
    data_limit: Annotated[int | None, typer.Option(min=1, help="With --data: its first so many images.")] = None,
    picture: Annotated[
        Path | None, typer.Option(help="With --data: latency against AbsRel, as .svg, .png or .pdf; it must not exist.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON, with every detail.")] = False,
) -> None:
    """Measure the latency of models on the processor: percentiles, first call, memory, file size, images/s of the pipeline.

    Every row is measured in a process of its own. An exported file is run by its own runtime. Compare rows of one call, on a
    quiet machine: a row that was disturbed says so.

    Example: dadkit bench starter/small topformer/tiny --backend eager --backend onnx --size 256x320
    """
    from dataclasses import asdict

    from dadkit.cli.arguments import split_model
    from dadkit.cli.components import short
    from dadkit.cli.export import truth_of
    from dadkit.cli.output import note, print_json, print_table
    from dadkit.errors import DadkitError, UsageError
    from dadkit.export.bench import bench as measure
    from dadkit.export.bench import pareto

    if picture is not None and (data is None or picture.exists() or picture.suffix not in (".svg", ".png", ".pdf")):
        raise UsageError(f"--picture needs --data, and a new .svg, .png or .pdf file; got {picture}")
    truth = truth_of(data, protocol, data_limit)
    rows, failed = [], []
    for text in models:
        name, options = split_model(text)
        is_file = Path(name).expanduser().is_file() and not name.endswith(".safetensors")
        for one in ["eager"] if is_file else backend or ["eager"]:
            try:
                rows.append(measure(name, options, backend=one, size=read_size(size), threads=threads, runs=runs, truth=truth))
            except DadkitError as error:
                failed.append(str(error))
    if as_json:
        print_json([asdict(row) for row in rows])
    else:
        headings = (
            "model",
            "backend",
            "size",
            "p50 ms",
            "p90",
            "p99",
            "cpu ms",
            "first ms",
            "images/s",
            "peak MB",
            "file MB",
            "MACs",
            *(["AbsRel"] if truth else []),
            "",
        )
        cells = []
        for row in rows:
            milliseconds = [f"{value:.1f}" for value in (row.p50_ms, row.p90_ms, row.p99_ms, row.cpu_ms, row.first_ms)]
            file = "" if row.megabytes is None else f"{row.megabytes:.2f}"
            rest = [
                f"{row.pipeline_per_s:.1f}",
                f"{row.peak_mb:.0f}",
                file,
                short(row.multiply_adds),
                *([f"{row.abs_rel:.4f} [{row.abs_rel_low:.4f}, {row.abs_rel_high:.4f}]"] if truth else []),
                "busy" if row.busy else "",
            ]
            cells.append([row.model, row.backend, f"{row.size[0]}x{row.size[1]}", *milliseconds, *rest])
        print_table(headings, cells)
    if picture is not None and rows:
        pareto(rows, picture)
        note(f"wrote {picture}")
    for text in failed:
        note(f"left out: {text}")
    if not rows:
        raise DadkitError("no row could be measured; see above")
