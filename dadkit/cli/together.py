"""The processes of a command that `torchrun` started: who prints, who reports an error."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

from dadkit.errors import DadkitError

__all__ = ["together"]


@contextmanager
def together() -> Iterator[tuple[bool, bool, Callable[[Exception], bool]]]:
    """Whether this is the process that writes, whether there are several (``torchrun``), and what tells whether this one shall
    report an error. Without torch, which takes its time to import, where a process is alone.

    An error that leaves the block is one message: where another process tells it, this one ends in silence, with its exit code.
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
