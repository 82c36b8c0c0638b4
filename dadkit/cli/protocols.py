"""`dadkit protocols`: the named protocols, and every choice that one of them makes."""

from __future__ import annotations

from typing import Annotated

import typer


def protocols(
    name: Annotated[str | None, typer.Argument(help="Show this protocol whole.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the evaluation protocols, or show one.

    Example: dadkit protocols affine-disparity
    """
    import json

    from rich.console import Console
    from rich.table import Table

    from dadkit.evaluation import load_protocol, protocol_names

    chosen = [load_protocol(each) for each in ([name] if name else protocol_names())]
    if as_json:
        typer.echo(json.dumps([protocol.model_dump(mode="json") for protocol in chosen], indent=2))
        return
    if name:
        for key, value in chosen[0].model_dump(mode="json").items():
            typer.echo(f"{key}: {value}")
        return
    table = Table("protocol", "space", "alignment", "summary")
    for protocol in chosen:
        table.add_row(protocol.name, protocol.space, protocol.alignment, protocol.summary)
    Console().print(table)
