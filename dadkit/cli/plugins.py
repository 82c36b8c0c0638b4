"""`dadkit plugins`: what is installed, in which state, and everything that is known about one of them.

The other commands of the group, ``new``, ``check``, ``disable``, ``enable`` and ``freeze``, have a module each beside this one.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dadkit.cli.output import note, print_facts, print_json, print_table
from dadkit.cli.plugins_check import check
from dadkit.cli.plugins_freeze import freeze
from dadkit.cli.plugins_new import new
from dadkit.cli.plugins_switch import disable, enable

if TYPE_CHECKING:
    from dadkit.plugin import PluginRecord

__all__ = ["app", "plugin_rows", "to_json"]

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_STYLES = {
    "ok": "green",
    "disabled": "dim",
    "incompatible": "red",
    "conflict": "red",
    "import-error": "red",
    "hook-error": "red",
}
_Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.callback(invoke_without_command=True)
def plugins(
    ctx: typer.Context,
    as_json: _Json = False,
    load: Annotated[bool, typer.Option("--load", help="Import each plugin, and say what it offers or why it fails.")] = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Load, and exit with 1 if one is broken (for continuous integration).")
    ] = False,
) -> None:
    """List the installed plugins and their states.

    Without --load no plugin is imported: `found` means installed, and not needed so far. A broken plugin harms no other.

    Example: dadkit plugins --load
    """
    if ctx.invoked_subcommand is not None:
        return
    from dadkit.plugin import get_registry

    records = get_registry().plugins(load=load or strict)
    if as_json:
        print_json([to_json(record) for record in records])
    else:
        print_table(("plugin", "state", "package", "components or reason"), plugin_rows(records), styles=_STYLES)
        if not records:
            note("no plugin is installed")
        if any(record.state == "found" for record in records):
            note("found = installed, not imported so far; `dadkit plugins --load` imports each")
    if strict and any(record.state.is_failure for record in records):
        raise typer.Exit(1)


@app.command()
def show(
    name: Annotated[str, typer.Argument(help="Name of the plugin, the part before the slash.")], as_json: _Json = False
) -> None:
    """Show everything about one plugin, which is imported for it: package, state, components, full traceback.

    Example: dadkit plugins show dav2
    """
    from dadkit.plugin import get_registry

    record = get_registry().plugin(name)
    if as_json:
        print_json({**to_json(record), "traceback": record.traceback})
        return
    facts = {
        "state": str(record.state),
        "reason": record.reason,
        "what to do": record.remedy,
        "distribution": f"{record.distribution} {record.version}",
        "requires": ", ".join(record.requires),
        "entry point": record.target,
        "location": record.location,
        "claimed by": list(record.claims),
    }
    print_facts(f"plugin {record.name}", facts)
    if record.components:
        typer.echo()
        rows = [
            (component.kind, component.name, component.target, component.space or "", component.summary)
            for component in record.components
        ]
        print_table(("kind", "name", "target", "space", "summary"), rows)
    if record.traceback:
        typer.echo()
        typer.echo(record.traceback.rstrip())


for _command in (new, check, disable, enable, freeze):
    app.command()(_command)


def plugin_rows(records: list[PluginRecord]) -> list[tuple[str, str, str, str]]:
    """One row a plugin: name, state, package, and what it offers or why it does not."""
    return [
        (
            record.name,
            str(record.state),
            f"{record.distribution} {record.version}",
            record.reason or _offer(record),
        )
        for record in records
    ]


def _offer(record: PluginRecord) -> str:
    """``"teacher: small, large; student: small"``."""
    names: dict[str, list[str]] = {}
    for component in record.components:
        names.setdefault(component.kind, []).append(component.name.partition("/")[2])
    return "; ".join(f"{kind}: {', '.join(of_kind)}" for kind, of_kind in names.items())


def to_json(record: PluginRecord) -> dict[str, Any]:
    """A record as plain data, without the traceback."""
    return {key: value for key, value in asdict(record).items() if key != "traceback"}
