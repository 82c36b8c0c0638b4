"""What commands take in common: models named by run, file or component, and a local file as a plugin."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["MODEL", "SIZE", "TORCH_MODEL", "plugin_file", "read_size", "short_names", "split_model"]

MODEL = "A run's folder, a file (model.safetensors, or an exported .onnx, .xml, …), or PLUGIN/NAME[:key=value,…]"
TORCH_MODEL = "A run's folder, a model.safetensors, or PLUGIN/NAME[:key=value,…]"
"""How help texts say what names a model: any one, or one whose network is at hand."""

SIZE = "S | HxW"
"""How help texts say what :func:`read_size` takes."""


def split_model(text: str) -> tuple[str, dict[str, Any]]:
    """Returns the name of a model, or its path, and its options.

    What exists as a file or folder is a path, whatever characters it holds. A comma separates options where ``key=`` follows.

    Example:
        >>> split_model("dav2/small:weights=a.pth,max_depth=20")
        ('dav2/small', {'weights': 'a.pth', 'max_depth': 20})
    """
    import re

    from dadkit.config.stages import parse_assignments

    name, colon, rest = text.partition(":")
    if not colon or "=" not in rest or os.path.exists(os.path.expanduser(text)):
        return text, {}
    return name, parse_assignments(re.split(r",(?=\s*[\w.]+=)", rest))


def read_size(text: str | None) -> tuple[int, int] | None:
    """Returns (height, width) of ``256`` or ``256x320``; None of None.

    Raises:
        DadkitError: it is neither.

    Example:
        >>> read_size("256x320")
        (256, 320)
    """
    from dadkit.errors import UsageError

    if text is None:
        return None
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(part.isdecimal() and int(part) for part in parts):
        raise UsageError(f"--size is one side or HEIGHTxWIDTH, for instance 256x320; got '{text}'")
    return int(parts[0]), int(parts[-1])


def short_names(texts: Sequence[str]) -> list[str]:
    """Returns what tables and pictures call these different models: of a path, the shortest end that tells it from the others.

    Example:
        >>> short_names(["dav2/small", "topformer/tiny"])
        ['dav2/small', 'topformer/tiny']
    """
    files = [os.path.exists(os.path.expanduser(text)) for text in texts]
    parts = [Path(text).expanduser().absolute().parts if file else (text,) for text, file in zip(texts, files, strict=True)]

    def end(index: int) -> str:
        own = parts[index]
        others = [other for place, other in enumerate(parts) if place != index]
        count = next((n for n in range(1, len(own) + 1) if all(other[-n:] != own[-n:] for other in others)), len(own))
        return "/".join(own[-count:])

    return [end(index) for index in range(len(parts))]


def plugin_file() -> Any:
    """Returns the option ``--plugin`` that every command takes; the file is in use before the command runs."""
    only = typer.Typer(add_completion=False)
    only.command()(_takes_plugin)
    option = typer.main.get_command(only).params[0]  # typer makes options of signatures alone
    option.expose_value = False
    return option


def _use(file: Path | None) -> Path | None:
    if file is not None:
        from dadkit.plugin import get_registry

        get_registry().use_file(file)
    return file


def _takes_plugin(
    plugin: Annotated[
        Path | None,
        typer.Option(metavar="FILE", callback=_use, help="A Python file with hooks of your own; its names are local/…."),
    ] = None,
) -> None: ...
