"""Split lists in the formats in which the field shares them: paths separated by white space, one sample a line."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from dadkit.data.benchmarks.base import Benchmark, Entry, entries_of, missing
from dadkit.errors import DataError

__all__ = ["NOTHING", "beneath", "find_list", "listed_entries", "read_columns"]

NOTHING = "None"
"""What KITTI's list says where an image has no depth."""


def find_list(root: Path, given: str | Path | None, names: Sequence[str]) -> Path | None:
    """The list file: the given one (as it is, or below the root), or the first of ``names`` that lies below the root.

    Raises:
        DataError: the given one does not exist.
    """
    if given is not None:
        for path in (Path(given).expanduser(), root / given):
            if path.is_file():
                return path
        raise DataError(f"the list {given} does not exist (looked for {Path(given).absolute()} and {root / given})")
    return next((root / name for name in names if (root / name).is_file()), None)


def read_columns(path: Path, least: int) -> list[list[str]]:
    """The lines of a list, split at white space; blank lines and lines that begin with ``#`` are left out.

    Raises:
        DataError: the file cannot be read, holds no line, or a line has fewer than ``least`` columns.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"cannot read the list {path}: {error}") from error
    rows = []
    for number, line in enumerate(text.splitlines(), start=1):
        columns = line.split()
        if not columns or line.lstrip().startswith("#"):
            continue
        if len(columns) < least:
            raise DataError(f"{path}, line {number}: expected {least} columns separated by white space, got {line!r}")
        rows.append(columns)
    if not rows:
        raise DataError(f"the list {path} names no file")
    return rows


def beneath(root: Path, names: Sequence[str], dataset: type[Benchmark], *, prefixes: Sequence[str] = ("",)) -> list[str]:
    """Paths of a list as they lie below ``root``: leading folders dropped or one of ``prefixes`` put before.

    Public lists begin at different folders, or with the absolute path of their author's disk. How many folders to drop and what
    to put before is found out on the first few names that exist, and is then the same for all.

    Raises:
        DataError: none of the names exists below the root in any way.
    """
    for name in names[:50]:
        parts = PurePosixPath(name.replace("\\", "/")).parts
        for drop in range(len(parts)):
            for prefix in prefixes:
                if Path(root, prefix, *parts[drop:]).is_file():
                    return [str(PurePosixPath(prefix, *PurePosixPath(n.replace("\\", "/")).parts[drop:])) for n in names]
    raise missing(dataset, root, [f"{prefix}{'/' if prefix else ''}{names[0]}" for prefix in prefixes])


def listed_entries(path: Path, root: Path, dataset: type[Benchmark], *, prefixes: Sequence[str] = ("",)) -> list[Entry]:
    """The entries that a list names, an image and its depth in the first two columns; errors as in the functions above."""
    rows = read_columns(path, 2)
    images, depths = (beneath(root, [row[column] for row in rows], dataset, prefixes=prefixes) for column in (0, 1))
    return entries_of(zip(images, depths, strict=True))
