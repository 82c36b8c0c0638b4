"""Find files: folders walked recursively, list files read line by line, brace patterns expanded."""

from __future__ import annotations

import itertools
import os
import re
from collections import Counter, deque
from collections.abc import Collection, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path

from PIL import features

from dadkit.errors import DataError
from dadkit.results import LIST, read_results

__all__ = [
    "EXTENSIONS",
    "LISTS",
    "OWN",
    "UNREAD",
    "counted",
    "expand_braces",
    "normalise_extensions",
    "read_list",
    "scan",
    "stem",
]

AVIF = (".avif",) if features.check("avif") else ()  # Pillow 11.3 and newer
HEIC = (".heic", ".heif") if find_spec("pillow_heif") else ()
JPEG2000 = (".jp2",) if features.check("jpg_2000") else ()

_ALWAYS = (
    *(".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pgm"),
    *(".png", ".ppm", ".tga", ".tif", ".tiff", ".webp"),
)
EXTENSIONS = tuple(sorted((*_ALWAYS, *AVIF, *HEIC, *JPEG2000)))
"""File name extensions taken for images in folders and tar shards, in any case. List files may name anything."""

UNREAD = {".avif", ".heic", ".heif", ".jxl", ".jp2", ".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".rw2", ".orf", ".psd"}
"""Extensions of pictures that are left out where nothing reads them."""

LISTS = (".txt", ".lst", ".csv", ".tsv", ".json", ".jsonl")
"""Extensions of list files. Those in JSON are refused with what to do."""

OWN = "results of dadkit"
"""What :func:`scan` calls files that dadkit wrote, where it counts what it left out."""


def stem(name: str) -> str:
    """A relative path without its extension: ``"a.b/c.tar.jpg"`` -> ``"a.b/c.tar"``."""
    return os.path.splitext(name)[0]


def normalise_extensions(extensions: Iterable[str] | None) -> tuple[str, ...]:
    """``["JPG", ".png"]`` -> ``(".jpg", ".png")``; None is :data:`EXTENSIONS`."""
    if extensions is None:
        return EXTENSIONS
    if isinstance(extensions, str):
        extensions = [extensions]
    return tuple(sorted({"." + e.lower().lstrip(".") for e in extensions}))


def counted(left_out: Counter[str]) -> str:
    """``"8 .heic, 2 results of dadkit"``: the commonest first."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(left_out.items(), key=lambda item: (-item[1], item[0])))


def scan(folder: Path, extensions: Collection[str], *, results: bool = False) -> tuple[list[str], Counter[str]]:
    """Returns all files below ``folder`` with one of ``extensions``.

    Symlinked folders are followed. Every folder is read once, however many links lead to it and under its own name where it
    lies in the tree, so a link to a parent is no endless loop and no image is taken twice. Names that begin with a dot are
    left out: they are thumbnails, version control, and the ``._name.jpg`` files that macOS puts beside images. Files that
    dadkit wrote (:mod:`dadkit.results`) are left out too, unless ``results`` is True.

    Returns:
        The paths relative to ``folder`` with ``/`` between parts, sorted by code points (the same on every machine), and how
        often each *other* extension occurred, for messages; dadkit's own files are counted as :data:`OWN`.

    Raises:
        DataError: a folder cannot be read.
    """
    found: list[str] = []
    others: Counter[str] = Counter()
    seen: set[tuple[int, int]] = set()
    own: set[str] = set()
    # Real folders before linked ones: a folder that also lies in the tree keeps its own name.
    real, linked = deque([""]), deque[str]()
    while real or linked:
        prefix = (real or linked).popleft()
        try:
            status = (folder / prefix).stat()
            if (status.st_dev, status.st_ino) in seen:
                continue
            seen.add((status.st_dev, status.st_ino))
            with os.scandir(folder / prefix) as listing:
                entries = sorted(listing, key=lambda entry: entry.name)
            if not results and any(entry.name == LIST for entry in entries):
                own.update(prefix + name for name in read_results(folder / prefix).files)
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                name = prefix + entry.name
                if name in own:
                    others[OWN] += 1
                elif os.path.isdir(folder / name):  # False for a link to itself
                    (linked if entry.is_symlink() else real).append(name + "/")
                elif os.path.splitext(name)[1].lower() in extensions:
                    found.append(name)  # a dangling link too: it is reported and counted when it is read
                else:
                    others[os.path.splitext(name)[1].lower() or "no extension"] += 1
        except OSError as error:
            raise DataError(f"cannot read folder {folder / prefix}: {error.strerror or error}") from error
    return sorted(found), others


def read_list(path: Path, columns: int) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The entries of a list file with their line numbers, one by one.

    One entry a line. Blank lines and lines that begin with ``#`` are left out, and so is a table's heading: a first line of
    single words, none of which is a file. Two columns are separated by a tab, or in lines without one by a comma or a
    semicolon, so that paths may hold spaces; in lines without any, by blanks. A number behind them (the focal length in the
    lists of BTS) is not read. Back-slashes, as Windows writes them, are taken for slashes, quotes
    around a path and a slash before one (BTS) are taken off, unless a file of that very name exists.

    Raises:
        DataError: the file cannot be read, is neither UTF-8 nor UTF-16 with its mark, has a line with another number of
            columns, or no entry at all.
    """
    empty = True
    try:
        with path.open("rb") as handle:  # PowerShell writes UTF-16
            encoding = "utf-16" if handle.read(2) in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        with path.open(encoding=encoding) as lines:
            for number, line in enumerate(lines, start=1):
                line = line.strip()
                if not line or line.startswith("#"):
                    continue
                parts = (line,) if columns == 1 else _columns(line, columns)
                if empty and number == 1 and line[0] in "[{" and not os.path.lexists(path.parent / line):
                    raise DataError(f"the list {path} is JSON; write its paths as text, {_A_LINE[columns]} a line")
                if empty and all(_is_heading(path.parent, part) for part in parts):
                    continue
                if len(parts) != columns or not all(parts):
                    what = f"expected {columns} paths separated by tab, comma, semicolon or blanks, got {len(parts)}: {line!r}"
                    raise DataError(f"{path}, line {number}: {what}")
                empty = False
                yield number, tuple(_as_meant(path.parent, part) for part in parts)
    except OSError as error:
        raise DataError(f"cannot read the list {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataError(f"the list {path} is not UTF-8 text: {error}") from error
    if empty:
        raise DataError(f"the list {path} names no file")


_A_LINE = {1: "one", 2: "an image and its depth, separated by a tab,"}


def _columns(line: str, columns: int) -> tuple[str, ...]:
    separator = next((mark for mark in ("\t", ",", ";") if mark in line), None)
    parts = tuple(part.strip() for part in line.split(separator))
    return parts[:columns] if len(parts) == columns + 1 and _is_number(parts[-1]) else parts


def _is_heading(base: Path, text: str) -> bool:
    """True for a word with no suffix and no folder that is no file either."""
    return re.fullmatch(r'"?\w+"?', text) is not None and not os.path.isfile(base / text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _as_meant(base: Path, name: str) -> str:
    """Returns a name as it was meant, where no file has it as it stands: without the quotes of a table, with slashes, and below
    ``base`` although it begins with a slash.
    """
    if os.path.lexists(base / name):
        return name
    if len(name) > 2 and name[0] == name[-1] == '"':
        name = name[1:-1]
    name = name.replace("\\", "/")
    inner = name.lstrip("/")
    return inner if inner != name and os.path.lexists(base / inner) else name


def expand_braces(pattern: str) -> list[str]:
    """``"s-{08..10}.tar"`` -> s-08.tar, s-09.tar, s-10.tar; ``"{a,b}.tar"`` -> a.tar, b.tar; several braces multiply."""
    pieces = re.split(r"\{([^{}]*)\}", pattern)
    choices = [[piece] if i % 2 == 0 else _alternatives(piece) for i, piece in enumerate(pieces)]
    return ["".join(choice) for choice in itertools.product(*choices)]


def _alternatives(inside: str) -> list[str]:
    numbers = re.fullmatch(r"(\d+)\.\.(\d+)", inside)
    if numbers is None:
        return inside.split(",")
    first, last = numbers.groups()
    return [str(n).zfill(len(first)) for n in range(int(first), int(last) + 1)]
