"""`dadkit export`: a model as a file for another runtime."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dadkit.cli.arguments import SIZE, TORCH_MODEL, read_size

if TYPE_CHECKING:
    from dadkit.evaluation import EvaluationPlan
    from dadkit.export import Exported


def export(
    model: Annotated[str, typer.Argument(help=f"{TORCH_MODEL}.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The file to write; it must not exist.")],
    to: Annotated[str, typer.Option("--to", help="Exporter, perhaps with options: onnx, onnx:opset=18, …")] = "onnx",
    size: Annotated[
        str | None,
        typer.Option(metavar=SIZE, help="For this one size and one image at a time. Default: any size where the format can."),
    ] = None,
    uint8: Annotated[bool, typer.Option("--uint8", help="Takes (B, H, W, 3) bytes instead of (B, 3, H, W) in [0, 1].")] = False,
    precision: Annotated[str, typer.Option(help="fp32; fp16 and int8 must pass a gate, and int8 needs --images.")] = "fp32",
    images: Annotated[
        list[Path] | None, typer.Option(help="Photographs to check the file on; may be repeated. Default: one of matplotlib's.")
    ] = None,
    limit: Annotated[
        float | None, typer.Option(min=0, help="Largest difference, in parts of the map's range. Default: 1e-4.")
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(metavar="DATASET", help="Images with true depth: model and file are evaluated, e.g. pairs:root=mine,…"),
    ] = None,
    protocol: Annotated[
        str, typer.Option("--protocol", "-p", help="With --data: how; see `dadkit protocols`.")
    ] = "affine-disparity",
    data_limit: Annotated[
        int | None, typer.Option("--data-limit", min=1, help="With --data: its first so many images.")
    ] = None,
    max_drop: Annotated[
        float | None,
        typer.Option(min=0, help="With --data: part by which AbsRel may grow, at the end of its 95 % interval. Default: 0.01."),
    ] = None,
    check: Annotated[bool, typer.Option("--check/--no-check", help="Run the file against the model.")] = True,
    align: Annotated[
        str | None,
        typer.Option(
            metavar="FILE|none",
            help="A file of `dadkit calibrate`: the graph answers metres. Default: the one stored beside the weights.",
        ),
    ] = None,
) -> None:
    """Write a model for another runtime, and check the file against the model on photographs at three sizes.

    The file takes RGB and answers with the depth map at the same size; normalisation is part of it. What the numbers mean,
    which sizes it takes, the licences of its weights and the result of the check are in its metadata. `dadkit exporters`
    lists the formats. A file that answers otherwise than the model gets no name.

    Example: dadkit export runs/mine --to onnx -o mine.onnx
    """
    from dataclasses import asdict

    from dadkit.calibration import calibrated
    from dadkit.cli.arguments import split_model
    from dadkit.export import LIMIT, ExportError, export_model
    from dadkit.export.gate import MAX_DROP
    from dadkit.export.metadata import origin
    from dadkit.interfaces import CalibratedModel
    from dadkit.loading import load_model

    name, options = split_model(model)
    exporter, exporter_options = split_model(to)
    loaded, _ = calibrated(load_model(name, **options), model, align)
    if data is None and max_drop is not None:
        raise ExportError("--max-drop needs images with true depth: --data DATASET")
    result = export_model(
        loaded,
        output,
        to=exporter,
        options=exporter_options,
        size=read_size(size),
        input="uint8" if uint8 else "float",
        source=origin(name) | ({"metres": asdict(loaded.metres)} if isinstance(loaded, CalibratedModel) else {}),
        precision=precision,
        pictures=images or (),
        check=check,
        limit=LIMIT if limit is None else limit,
        truth=truth_of(data, protocol, data_limit),
        max_drop=MAX_DROP if max_drop is None else max_drop,
    )
    _report(result)


def truth_of(data: str | None, protocol: str, limit: int | None) -> EvaluationPlan | None:
    """Returns what ``--data``, ``--protocol`` and ``--data-limit`` say; None without ``--data``."""
    from dadkit.cli.arguments import split_model
    from dadkit.config.schema import DatasetConfig, EvaluationConfig
    from dadkit.evaluation import EvaluationPlan

    if data is None:
        return None
    name, options = split_model(data)
    config = DatasetConfig(name=name, options=options)
    return EvaluationPlan.resolve(EvaluationConfig(data=config, protocol=protocol, limit=limit))


def _report(result: Exported) -> None:
    from dadkit.cli.output import note, print_table
    from dadkit.export.writing import megabytes

    if result.agreement is not None:
        rows = [
            (f"{row.size[0]}x{row.size[1]}", str(row.batch), f"{row.worst:.1e}", f"{row.mean:.1e}")
            for row in result.agreement.rows
        ]
        print_table(("size", "images", "largest difference", "mean difference"), rows)
    if result.verdicts:
        cells = [
            (row.variant or str(result.metadata["precision"]), f"{row.abs_rel:.4f}", f"{row.delta1:.4f}", f"{row.worst:.4f}",
             f"{row.drop.abs_rel_change:+.4f}" if row.drop else "", f"{row.megabytes:.2f}", "kept" if row.passes else "refused")
            for row in result.verdicts
        ]  # fmt: skip
        headings = ("variant", "AbsRel to the model", "delta1", "worst picture", "change of AbsRel", "MB", "verdict")
        print_table(headings, cells)
        if kept := result.verdicts[-1].kept:
            print_table(("kept in float", "error that it alone brings"), [(name, f"{error:.4f}") for name, error in kept])
    if result.drop is not None:
        drop = result.drop
        note(
            f"against true depth ({drop.images} images of {drop.dataset}, {drop.protocol}): AbsRel {drop.abs_rel:.4f} "
            f"{drop.abs_rel_change:+.4f} [{drop.low:+.4f}, {drop.high:+.4f}], "
            f"delta1 {drop.delta1:.4f} {drop.delta1_change:+.4f}"
        )
    for path in result.files:
        note(f"wrote {path} ({megabytes(path):.2f} MB)")
    note(f"licence: {result.metadata['license']}")
    for text in result.notes:
        note(f"note: {text}")
