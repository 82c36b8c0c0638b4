"""`dadkit plugins new`: a working plugin package to start from."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["Kind", "License", "new"]


class Kind(StrEnum):
    """What a new package can offer; a test holds it to the scaffolds."""

    TEACHER = "teacher"
    STUDENT = "student"
    ENCODER = "encoder"
    NORMALIZER = "normalizer"
    SAMPLER = "sampler"
    LOSS = "loss"
    DATASET = "dataset"


class License(StrEnum):
    """Under what; a test holds it to the scaffolds."""

    APACHE = "Apache-2.0"
    MIT = "MIT"
    BSD = "BSD-3-Clause"
    PROPRIETARY = "proprietary"


def new(
    name: Annotated[str, typer.Argument(help="Name of the plugin, the part before the slash: acme.")],
    kind: Annotated[Kind, typer.Option("--kind", "-k", help="What it offers.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write; by default dadkit-NAME.", show_default=False)
    ] = None,
    license: Annotated[License, typer.Option("--license", help="Of its code and weights.")] = License.APACHE,
    author: Annotated[str, typer.Option("--author", help="For the licence.", show_default=False)] = "",
) -> None:
    """Write a small plugin package that works: a toy without weights, its tests, README, licence, CI file, training in small.

    Example: dadkit plugins new acme --kind teacher
    """
    from dadkit.plugin.scaffold import write_package

    folder = output or Path(f"dadkit-{name}")
    for file in write_package(name, str(kind), folder, license=str(license), author=author):
        typer.echo(f"wrote {folder / file}")
    typer.echo(f"next: cd {folder} && pip install -e . && dadkit plugins check {name} && dadkit train train.yaml")
