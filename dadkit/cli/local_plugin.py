"""The option ``--plugin FILE`` of commands that build components: one local file as the plugin ``local``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["PluginFile"]


def _use(file: Path | None) -> Path | None:
    if file is not None:
        from dadkit.plugin import get_registry

        get_registry().use_file(file)
    return file


PluginFile = Annotated[
    Path | None,
    typer.Option(
        "--plugin", metavar="FILE", callback=_use, help="A Python file with hooks of your own; its names are local/…."
    ),
]
"""Annotation of a command's parameter; the file is in use before the command runs."""
