"""Writing files so that a reader never sees half of one: temporary name in the same folder, fsync, rename.

And what a file really is whose name says something else.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dadkit.errors import DadkitError

__all__ = ["NameTooLongError", "atomic_path", "really", "really_is", "write_bytes", "write_text"]


class NameTooLongError(DadkitError):
    """A file cannot have the name that it would be written under."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; if the block succeeds it becomes ``path``, if it fails it vanishes.

    Raises:
        NameTooLongError: the file system has no names of this length.
        DadkitError: the disk is full or the folder cannot be written; ``path`` is then as it was before.
    """
    path = Path(path)
    # The suffix is kept, since many writers choose their format by it; a long name is not, since the sum may be too long.
    name = path.stem if len(os.fsencode(path.name)) < 200 else hashlib.sha256(os.fsencode(path.name)).hexdigest()
    temporary = path.with_name(f".{name}.{os.getpid()}.tmp{path.suffix}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        temporary.replace(path)
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise NameTooLongError(f"cannot write {path.name}: the name is too long for this file system") from error
        raise DadkitError(f"cannot write {path}: {_why(error)}; free some space or choose another folder") from error
    finally:
        with suppress(OSError):  # there is none, or its folder is none
            temporary.unlink()


def _why(error: OSError) -> str:
    if error.errno is None and "requested and" in str(error):  # NumPy's, of a disk that took only a part
        return os.strerror(errno.ENOSPC)
    return error.strerror or str(error)


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    """Write ``text`` as UTF-8 to ``path``, whole or not at all. What is no text in names of files is escaped, as JSON does."""
    write_bytes(path, text.encode(errors="backslashreplace"))


_SIGNS = (
    (b"version https://git-lfs", "a Git LFS pointer, not the file itself: `git lfs pull` fetches it"),
    (b"\x1f\x8b", "compressed with gzip: unpack it"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\x89HDF", "an HDF5 file"),
    (b"GGUF", "a GGUF file, which no depth model comes in"),
    (b"MATLAB", "a MATLAB file"),
    (b"%PDF", "a PDF document"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"\x1aE\xdf\xa3", "a film (Matroska or WebM), which is read under the ending .mkv"),
    (b"PK\x03\x04", "a zip archive"),
    (b"\x80\x02", "a pickle"),
    (b"\x80\x04", "a pickle"),
    (b"\x80\x05", "a pickle"),
)

_PICTURES = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis")
"""What MP4's container holds where it is a picture."""


def really(path: str | Path) -> str | None:
    """Returns what a file is by its first bytes, for a reader that expected something else; None if they tell nothing.

    Example:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     really(file.name)
        'empty'
    """
    try:
        with Path(path).open("rb") as handle:
            return really_is(handle.read(64))
    except OSError:
        return None


def really_is(head: bytes) -> str | None:
    """Returns the same of a file's first bytes.

    Example:
        >>> really_is(b"<!DOCTYPE html><html>")
        "a web page or XML: the download was answered by a page, under this file's name"
    """
    start = head.lstrip().lower()
    if not head:
        return "empty"
    if start.startswith((b"<!doctype", b"<html", b"<?xml", b"<svg")):
        return "a web page or XML: the download was answered by a page, under this file's name"
    if start.startswith((b'{"', b"[{")):
        return "JSON text"
    if head[4:8] == b"ftyp" and head[8:12] not in _PICTURES:
        return "a film (MP4 or MOV), which is read under the ending .mp4"
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return "a film (AVI), which is read under the ending .avi"
    return next((words for sign, words in _SIGNS if head.startswith(sign)), None)
