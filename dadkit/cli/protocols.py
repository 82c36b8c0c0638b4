"""`dadkit protocols`: the named protocols, and every choice that one of them makes."""

from __future__ import annotations

from typing import Annotated

import typer


def protocols(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[show] [NAME]", help="Show this protocol whole; `show NAME` and `NAME` mean the same."),
    ] = None,
    dataset: Annotated[str | None, typer.Option("--dataset", "-d", help="With this dataset's own values.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """List the evaluation protocols, or show one.

    Example: dadkit protocols show marigold --dataset nyuv2
    """
    from dadkit.cli.output import print_facts, print_json, print_table
    from dadkit.errors import DadkitError
    from dadkit.evaluation import load_protocol, protocol_names

    wanted = [name for name in names or [] if name != "show"]
    if len(wanted) > 1:
        raise DadkitError(f"one protocol at a time, got {', '.join(wanted)}")
    chosen = [load_protocol(each, dataset) for each in (wanted or protocol_names())]
    if as_json:
        print_json([protocol.plain() for protocol in chosen])
        return
    if not wanted:
        print_table(
            ["protocol", "space", "alignment", "datasets", "summary"],
            [
                [p.name, *((str(p.space), p.alignment) if p.task == "depth" else ("", "")), " ".join(p.datasets), p.summary]
                for p in chosen
            ],
        )
        return
    protocol = chosen[0]
    facts = {key: value for key, value in protocol.plain().items() if key not in ("name", "datasets")}
    shown = facts | {"metrics": " ".join(protocol.metrics)}
    print_facts(protocol.name, {key: str(value) for key, value in shown.items() if value is not None})
    print_facts("in words", protocol.words())
    if dataset is None and protocol.datasets:
        print_facts("with other values for", {name: _listed(own) for name, own in protocol.datasets.items()})


def _listed(own: dict[str, object]) -> str:
    return ", ".join(f"{key} {value}" for key, value in own.items()) or "the same"
