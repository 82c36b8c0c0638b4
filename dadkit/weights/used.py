"""Which weight files were read while a model was built, so that a run can tell later whether they are still the same."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

from dadkit.weights import hub

__all__ = ["find_again", "note_file", "noted_files"]

_noted: ContextVar[dict[str, Path] | None] = ContextVar("noted", default=None)


@contextmanager
def noted_files() -> Iterator[dict[str, Path]]:
    """Collects the weight files that are read within the block: name -> file, see :func:`note_file`."""
    found: dict[str, Path] = {}
    token = _noted.set(found)
    try:
        yield found
    finally:
        _noted.reset(token)


def note_file(name: str | Path, file: Path) -> None:
    """Tell the collector (see :func:`noted_files`) that a model gets its weights from this file.

    ``read_weights`` and ``find_file`` do it themselves. A plugin that reads files in another way calls it, or changed weights
    under an unchanged name go unnoticed.

    Args:
        name: how the file is found again: its path, or ``hf://ORG/NAME[@REVISION]/FILE``.
        file: where it is now.
    """
    found = _noted.get()
    if found is not None:
        found[str(name)] = file


def find_again(name: str) -> Path | None:
    """Returns the file of that name, without asking the net; None if it is not there any more."""
    address = hub.parse(name)
    if address is not None:
        return hub.cached(address)
    path = Path(name).expanduser()
    return path if path.is_file() else None
