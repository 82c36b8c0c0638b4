"""How commands print: a table for people at a terminal, plain aligned columns for pipes and files, JSON for programs.

Of the processes that ``torchrun`` started, one prints and one reports an error.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import typer

from dadkit.errors import DadkitError

__all__ = [
    "INTERRUPTED",
    "note",
    "print_error",
    "print_facts",
    "print_json",
    "print_table",
    "several",
    "together",
    "warn",
]


def print_table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Mapping[str, str] | None = None) -> None:
    """Print rows under headings; columns that are empty throughout are left out.

    A terminal gets a table that wraps to its width. Anything else gets one line a row, columns two spaces apart, nothing cut,
    so that ``grep`` and ``awk`` can be used on it.

    Args:
        headings: one per column.
        rows: cells as plain text (no markup).
        styles: cell text -> rich style, for words such as ``ok`` wherever they fill a cell.

    Without rows nothing is printed, not even the headings.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        return
    kept = [index for index in range(len(headings)) if any(row[index] for row in rows)]
    headings, rows = [headings[index] for index in kept], [[row[index] for index in kept] for row in rows]
    console = Console()
    if not console.is_terminal:
        widths = [max(len(cell) for cell in column) for column in zip(headings, *rows, strict=True)]
        for row in (headings, *rows):
            typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    table = Table()
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for row in rows:
        table.add_row(*(Text(cell, style=(styles or {}).get(cell, "")) for cell in row))
    console.print(table)


def print_facts(title: str, facts: Mapping[str, object]) -> None:
    """Print ``name  value`` lines under a title; empty values are left out, lists become one line an item."""
    typer.secho(title, bold=True)
    shown = {name: value for name, value in facts.items() if value not in (None, "", [], {})}
    width = max((len(name) for name in shown), default=0)
    for name, value in shown.items():
        lines = [str(item) for item in value] if isinstance(value, list | tuple) else [str(value)]
        for index, line in enumerate(lines):
            typer.echo(f"  {name if index == 0 else '':<{width}}  {line}")


def print_json(value: Any) -> None:
    """Print indented JSON, and nothing else, on standard output."""
    typer.echo(json.dumps(value, indent=2, ensure_ascii=False))


def several(count: int, what: str) -> str:
    """Returns ``"1 run"`` or ``"3 runs"``."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def note(text: str) -> None:
    """Print a remark on standard error, where it does not disturb a pipe."""
    typer.secho(text, err=True, dim=True)


def warn(text: str) -> None:
    """Print on standard error what a person should look at."""
    typer.secho(f"warning: {text}", err=True, fg=typer.colors.YELLOW)


def print_error(error: Exception) -> None:
    """Print the message of an error on standard error."""
    typer.secho("error: ", fg=typer.colors.RED, bold=True, nl=False, err=True)
    typer.echo(str(error), err=True)


INTERRUPTED = 130
"""Exit code after Ctrl-C."""


@contextmanager
def together() -> Iterator[tuple[bool, bool, Callable[[Exception], bool]]]:
    """Yields ``(main, several, reports)`` to a command that ``torchrun`` may have started in several processes.

    ``main`` is True in the process that prints and writes. ``several`` is True if there is more than one process.
    ``reports(error)`` is True if this process is the one that prints the error. A single process imports no torch here.

    An error that leaves the block is printed once: the other processes end in silence, with the same exit code.
    """
    if os.environ.get("WORLD_SIZE", "1") == "1":
        yield True, False, lambda _: True
        return
    from dadkit.training.distributed import join

    with join() as ranks:
        try:
            yield ranks.main, ranks.several, ranks.reports
        except DadkitError as error:
            if ranks.reports(error):
                raise
            raise typer.Exit(error.exit_code) from error
