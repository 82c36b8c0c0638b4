"""The processes of a command that `torchrun` started: which one prints, which one reports an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from dadkit.errors import DadkitError

__all__ = ["INTERRUPTED", "together"]

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
