"""`dadkit plugins disable|enable`: switch a plugin off and on, for good. Neither imports it."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["disable", "enable"]

_Name = Annotated[str, typer.Argument(help="Name of the plugin, the part before the slash.")]


def disable(name: _Name) -> None:
    """Switch a plugin off until it is enabled again; it is never imported, so one that breaks everything can be mended so.

    Example: dadkit plugins disable acme
    """
    from dadkit.plugin import get_registry
    from dadkit.plugin.switches import disabled_file, switch_off

    get_registry().plugin(name, load=False)  # an unknown name is told with near misses
    done = switch_off(name)
    typer.echo(f"{name} is off{'' if done else ' already'} ({disabled_file()}); `dadkit plugins enable {name}` switches it on")


def enable(name: _Name) -> None:
    """Switch a plugin on again.

    Example: dadkit plugins enable acme
    """
    from dadkit.plugin.switches import DISABLE_VARIABLE, disabled_file, switch_on, switched_off

    done = switch_on(name)
    where = switched_off().get(name)
    if where == DISABLE_VARIABLE:
        typer.echo(f"{name} stays off as long as the environment variable {DISABLE_VARIABLE} names it")
    elif done:
        typer.echo(f"{name} is on")
    else:
        from dadkit.plugin import get_registry

        get_registry().plugin(name, load=False)
        typer.echo(f"{name} was not switched off in {disabled_file()}")
