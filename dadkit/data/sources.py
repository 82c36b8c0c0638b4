"""Where encoded images lie: files below a folder, files named by a list, members of tar shards."""

from __future__ import annotations

import os
import tarfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from dadkit.data.folders import expand_braces, read_list, scan, stem
from dadkit.data.packed import PackedStrings
from dadkit.data.sample import SampleError
from dadkit.errors import DataError

__all__ = ["FileSource", "ShardSource", "Source", "file_stamp", "inside", "keys_with_suffix", "open_root"]

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Source(Protocol):
    """Encoded images in a fixed order."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Relative path with extension, ``/`` between parts, unique in the source."""
        ...

    def location(self, index: int) -> str:
        """Where a person finds it, for messages."""
        ...

    def read(self, index: int) -> Path | bytes:
        """The file, or its bytes. Raises :class:`SampleError` if they cannot be had."""
        ...

    def stamp(self, index: int) -> str:
        """A text that changes when the file that holds the image changes: its size and time of change."""
        ...


class FileSource:
    """Files below one folder."""

    def __init__(self, base: Path, names: Sequence[str]) -> None:
        self.base = base
        self._names = PackedStrings(names)

    def __len__(self) -> int:
        return len(self._names)

    def name(self, index: int) -> str:
        """The path relative to the folder; of a path that leads out of it (lists may hold them) see :func:`inside`."""
        return inside(self._names[index])

    def location(self, index: int) -> str:
        """The path."""
        return str(self.base / self._names[index])

    def read(self, index: int) -> Path:
        """The path."""
        return self.base / self._names[index]

    def stamp(self, index: int) -> str:
        """Size and time of change."""
        return file_stamp(self.base / self._names[index])


class ShardSource:
    """Members of plain tar files, read in place by offset.

    The headers of each shard are read once, here; afterwards a member is one seek and one read. The file is opened anew for
    each read, so that nothing is shared between loader workers.

    Args:
        shards: (name, path) of each tar file; members are named ``NAME/MEMBER``.
        extensions: members with another extension (captions, metadata) are left out.

    Raises:
        DataError: a shard is missing, is compressed or not a tar file, or is cut short.
    """

    def __init__(self, shards: Sequence[tuple[str, Path]], extensions: Sequence[str]) -> None:
        self._shards = list(shards)
        members: list[str] = []
        places: list[tuple[int, int, int]] = []
        self.others: Counter[str] = Counter()
        for number, (_, path) in enumerate(self._shards):
            index = _read_headers(path)
            for member, (offset, size) in index.items():
                extension = member[len(stem(member)) :].lower()
                if extension in extensions and not member.rpartition("/")[2].startswith("."):
                    members.append(member)
                    places.append((number, offset, size))
                else:
                    self.others[extension or "no extension"] += 1
        self._members = PackedStrings(members)
        self._places = np.array(places, dtype=np.int64).reshape(-1, 3)

    def __len__(self) -> int:
        return len(self._members)

    def name(self, index: int) -> str:
        """``SHARD/MEMBER``."""
        return inside(f"{self._shards[self._places[index, 0]][0]}/{self._members[index]}")

    def location(self, index: int) -> str:
        """``path of the shard: member``."""
        return f"{self._shards[self._places[index, 0]][1]}: {self._members[index]}"

    def read(self, index: int) -> bytes:
        """The member's bytes."""
        shard, offset, size = self._places[index].tolist()
        try:
            with self._shards[shard][1].open("rb") as handle:
                handle.seek(offset)
                data: bytes = handle.read(size)
        except OSError as error:
            raise SampleError(f"the shard cannot be read: {error.strerror or error}") from error
        if len(data) < size:
            raise SampleError(f"the shard ends after {len(data)} of the member's {size} bytes")
        return data

    def stamp(self, index: int) -> str:
        """The member's place, and the shard's time of change."""
        shard, offset, size = self._places[index].tolist()
        return f"{offset}+{size} of {file_stamp(self._shards[shard][1])}"


def file_stamp(path: Path) -> str:
    """Size and time of change of a file, as text."""
    try:
        status = path.stat()
    except OSError:
        return "unreadable"
    return f"{status.st_size} bytes, {status.st_mtime_ns}"


def _read_headers(path: Path) -> dict[str, tuple[int, int]]:
    """Member -> (offset, size) of the regular files of a tar; of two members with one name the later holds, as in tar."""
    index: dict[str, tuple[int, int]] = {}
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    index[member.name] = (member.offset_data, member.size)
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile remembers every header it has seen
            _check_end(path, tar.offset)
    except FileNotFoundError as error:
        raise DataError(f"the tar shard {path} does not exist") from error
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"cannot read the tar shard {path} ({len(index)} members were readable): {error}. Shards must be plain tar files, "
            "not compressed, and whole; take it out of the root or get it again"
        ) from error
    return index


def _check_end(path: Path, offset: int) -> None:
    """After the last member stand zeros or nothing. ``tarfile`` takes garbage and half a header for the end, too."""
    with path.open("rb") as handle:
        handle.seek(offset)
        block = handle.read(tarfile.BLOCKSIZE)
    if block and (len(block) < tarfile.BLOCKSIZE or any(block)):
        raise tarfile.ReadError(f"no valid header at byte {offset}")


def inside(name: str) -> str:
    """A relative path that stays below any folder it is joined to, as keys must: ``/a/../b`` -> ``a/_up/b``."""
    return "/".join("_up" if part == ".." else part for part in name.split("/") if part not in ("", "."))


def open_root(root: str | Path, extensions: Sequence[str]) -> list[Source]:
    """The sources behind one root: a folder (images and tar shards in it), a list file, a tar file, or a pattern of tar files.

    Raises:
        DataError: it does not exist, is of another kind, or holds no image; the message says what was looked for and found.
    """
    path = Path(root).expanduser()
    text = str(path)
    if path.is_dir():
        return _open_folder(path, extensions)
    if "{" in text and not path.exists():
        return [_nonempty_shards(ShardSource(_shard_pattern(text), extensions), text, extensions)]
    if not path.exists():
        raise DataError(f"no images: {root} does not exist (looked for {path.absolute()})")
    if text.lower().endswith(_COMPRESSED):
        raise DataError(f"{path} is compressed, so its members cannot be read in place; unpack it or make it a plain .tar")
    if path.suffix.lower() == ".tar":
        return [_nonempty_shards(ShardSource([(path.stem, path)], extensions), text, extensions)]
    if path.suffix.lower() == ".txt":
        return [_open_list(path)]
    raise DataError(f"{path} is neither a folder, a list file (.txt) nor a tar shard (.tar)")


def _open_folder(path: Path, extensions: Sequence[str]) -> list[Source]:
    names, others = scan(path, {*extensions, ".tar"})
    images = [n for n in names if not n.lower().endswith(".tar")]
    tars = [n for n in names if n.lower().endswith(".tar")]
    sources: list[Source] = [FileSource(path, images)] if images else []
    if tars:
        shards = ShardSource([(stem(n), path / n) for n in tars], extensions)
        others += shards.others
        sources += [shards] if len(shards) else []
    if not sources:
        raise DataError(_nothing_found(str(path.absolute()), extensions, others))
    return sources


def _shard_pattern(pattern: str) -> list[tuple[str, Path]]:
    """(name, path) of the shards of a brace pattern; names begin where the paths begin to differ."""
    shards = [Path(p).absolute() for p in expand_braces(pattern)]
    missing = [p for p in shards if not p.is_file()]
    if missing:
        raise DataError(f"{len(missing)} of the {len(shards)} shards of {pattern} do not exist, first {missing[0]}")
    common = os.path.commonpath([p.parent for p in shards])
    return [(stem(p.relative_to(common).as_posix()), p) for p in shards]


def _nonempty_shards(source: ShardSource, root: str, extensions: Sequence[str]) -> ShardSource:
    if not len(source):
        raise DataError(_nothing_found(root, extensions, source.others))
    return source


def _open_list(path: Path) -> FileSource:
    entries = [(number, columns[0]) for number, columns in read_list(path, 1)]
    base = path.parent
    missing = [(number, name) for number, name in entries if not (base / name).is_file()]
    if missing:
        number, name = missing[0]
        raise DataError(
            f"{len(missing)} of the {len(entries)} files that {path} names do not exist, first line {number}: {name!r} "
            f"(looked for {(base / name).absolute()}; paths are relative to the list's folder)"
        )
    lines: dict[str, int] = {}
    for number, raw in entries:
        name = os.path.normpath(raw).replace(os.sep, "/")
        if name in lines:
            raise DataError(
                f"{path} names {name!r} twice, in lines {lines[name]} and {number}; to see images more often, use weights"
            )
        lines[name] = number
    return FileSource(base, list(lines))


def _nothing_found(where: str, extensions: Sequence[str], others: Counter[str]) -> str:
    message = f"no images in {where}: looked for {', '.join(extensions)}, in all subfolders and tar shards"
    if others:
        extension, count = others.most_common(1)[0]
        message += f"; found {others.total()} other files, {count} of them {extension}"
    return message


def keys_with_suffix(names: Sequence[str]) -> np.ndarray:
    """Which names must keep their extension, so that no two keys are equal: ``a.jpg`` and ``a.png`` must, ``b.jpg`` need not.

    Returns:
        (len(names),) bool.

    Raises:
        DataError: two names are equal.
    """
    keep = np.zeros(len(names), dtype=bool)
    while True:
        keys = [name if kept else stem(name) for name, kept in zip(names, keep, strict=True)]
        counts = Counter(keys)
        clashing = np.fromiter((counts[key] > 1 for key in keys), dtype=bool, count=len(keys))
        if not clashing.any():
            return keep
        if not (clashing & ~keep).any():
            raise DataError(f"two images have the same name: {keys[int(clashing.argmax())]!r}; rename one or take it out")
        keep |= clashing  # a kept name may clash with another's stem, which is then kept in the next round
