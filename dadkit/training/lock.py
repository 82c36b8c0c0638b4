"""One process per run folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from dadkit.errors import DadkitError

__all__ = ["RunLockedError", "lock"]

_held: set[Path] = set()  # by this process: the operating system's lock does not exclude its owner


class RunLockedError(DadkitError):
    """Another process is training into the run's folder."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run's folder while the block runs; it is made if it is not there.

    The operating system lets go of it when the process dies, however it dies. It is a record lock, which belongs to the
    process: loader processes that outlive a killed one by some seconds do not keep it.

    Raises:
        RunLockedError: somebody else holds it.
        DadkitError: the folder cannot be made or written.
    """
    path = folder.absolute() / ".lock"
    if path in _held:  # and do not touch the file: closing it would give up the lock
        raise RunLockedError(_message(folder, f"process {os.getpid()}, this one"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+")
    except OSError as error:
        raise DadkitError(f"cannot write into {folder}: {error.strerror}; choose another folder with output=…") from error
    with handle:
        if not _try_lock(handle):
            handle.seek(0)
            raise RunLockedError(_message(folder, handle.read().strip() or "another process"))
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)


def _message(folder: Path, owner: str) -> str:
    return f"{folder} is being trained into by {owner}; wait for it, stop it, or give this run another name (name=…)"


def _try_lock(handle: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
