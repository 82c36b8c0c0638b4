"""`dadkit inspect`: a look at a dataset before training."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dadkit.cli.output import note, print_facts, print_json

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["inspect"]


def inspect(
    data: Annotated[
        str,
        typer.Argument(help="A dataset's name, a folder or list of images, or a run's YAML file: all its data."),
    ],
    options: Annotated[
        list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Options of the dataset, or overrides of the file.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many samples are looked at, evenly spread over the dataset.")] = 1000,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="A folder for inspection.html, with pictures.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Look at data before training: counts, sizes, valid pixels, depths, what would be skipped and why, what is there twice.

    Example: dadkit inspect pairs root=mine encoding=png16 space=metric scale=0.001 --output look
    """
    from dadkit.report.inspection import inspect_data, write_inspection
    from dadkit.results import claim

    if output is not None:
        claim(output, ["inspection.html"])
    found = []
    for name, dataset in _datasets(data, options or []):
        one = inspect_data(name, dataset, limit=limit)
        found.append(one)
        if as_json:
            continue
        print_facts(name, {key: value for key, value in one.facts().items() if key != "doubts"})
        for sample, reason in one.skipped[:5]:
            note(f"would be skipped: {sample}: {reason}")
        if len(one.skipped) > 5:
            note(f"and {len(one.skipped) - 5} more")
        for doubt in one.doubts():
            note(f"doubt: {doubt}")
    if as_json:
        print_json([{"name": one.name, **one.facts(), "skipped": one.skipped, "twins": one.twins} for one in found])
    if output is not None:
        note(f"page: {write_inspection(output / 'inspection.html', found)}")


def _datasets(data: str, options: list[str]) -> Iterator[tuple[str, Any]]:
    """Yields (name, dataset) of a dataset, of a folder of images, or of all data that a run's file names."""
    from dadkit.config import build, load_run
    from dadkit.config.stages import parse_assignments
    from dadkit.data import Images
    from dadkit.plugin import PluginError, get_registry

    path = Path(data).expanduser()
    if path.suffix.lower() in (".yaml", ".yml"):
        for stage in load_run(data, options).stages:
            if stage.data.root is not None:
                yield f"{stage.name}: root", Images(stage.data.root)  # type: ignore[arg-type]
            for kind, configs in (("unlabelled", stage.data.unlabelled), ("labelled", stage.data.labelled)):
                for config in configs:
                    yield f"{stage.name}: {kind} {config.name}", build("dataset", config.name, config.options)
    elif path.exists():
        yield data, Images(path, **parse_assignments(options))
    else:
        try:
            get_registry().resolve("dataset", data)
        except PluginError as error:
            raise PluginError(f"there is no file or folder '{data}', and no dataset of that name: {error}") from error
        yield data, build("dataset", data, parse_assignments(options))
