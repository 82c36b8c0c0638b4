"""`dadkit convert`: a trained model as other programs read it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dadkit.cli.arguments import TORCH_MODEL


def convert(
    source: Annotated[
        str,
        typer.Argument(metavar="SRC", help=f"{TORCH_MODEL}."),
    ],
    destination: Annotated[Path, typer.Argument(metavar="DST", help="A file or a folder, as the layout wants it.")],
    to: Annotated[
        str,
        typer.Option(
            "--to", help="Layout: encoder (that part alone), hf (transformers), dav2 (official .pth or .safetensors), …"
        ),
    ],
) -> None:
    """Write a trained model in another program's layout, with a card that names the licences of all its weights.

    Which layouts there are is up to the model: Depth Anything students have `dav2` and `hf`, which need no dadkit. Every other
    student has `hf` with dadkit's code, for transformers' pipeline, and `encoder`: its encoder's weights, for other tasks.

    Example: dadkit convert runs/mine depth-hf --to hf
    """
    from rich.console import Console

    from dadkit.cli.arguments import split_model
    from dadkit.conversion import convert as write

    name, options = split_model(source)
    result = write(name, destination, to, **options)
    console = Console(stderr=True)
    for path in result.files:
        console.print(f"wrote {path}", highlight=False, markup=False, soft_wrap=True)
    console.print(f"licence: {' AND '.join(result.licenses)}", highlight=False, markup=False, soft_wrap=True)
    for note in result.notes:
        console.print(f"note: {note}", style="yellow", highlight=False, markup=False, soft_wrap=True)
