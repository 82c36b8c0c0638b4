"""Where encoded images are: files below a folder, files named by a list, members of tar shards, objects in a bucket."""

from __future__ import annotations

import os
import warnings
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from dadkit.data.folders import LISTS, OWN, UNREAD, counted, expand_braces, read_list, scan, stem
from dadkit.data.packed import ComputedStrings, PackedStrings, repeated
from dadkit.data.shard_index import open_shard, read_range
from dadkit.data.store import BucketStore, file_stamp, is_address, read_sample
from dadkit.errors import DataError

__all__ = ["FileSource", "ShardSource", "Source", "inside", "keys_with_suffix", "open_root"]

_COMPRESSED = (".tar.gz", ".tgz", ".tar.bz2", ".tar.xz", ".tar.zst")


class Source(Protocol):
    """Encoded images in a fixed order."""

    def __len__(self) -> int: ...

    def name(self, index: int) -> str:
        """Relative path with extension, ``/`` between parts, unique in the source."""
        ...

    def location(self, index: int) -> str:
        """Returns where a person finds it, for messages."""
        ...

    def read(self, index: int) -> Path | bytes:
        """Returns the file, or its bytes. Raises :class:`SampleError` if they cannot be had."""
        ...

    def place(self, index: int) -> tuple[Path | str, int, int]:
        """Returns the file or address, where in it the image begins, and its number of bytes; (0, 0): the file is the image."""
        ...

    def stamp(self, index: int) -> str:
        """Returns a text that changes when the file that holds the image changes: its size and time of change."""
        ...


class FileSource:
    """Files below one folder."""

    def __init__(self, base: Path, names: Iterable[str]) -> None:
        self.base = base
        self.names = PackedStrings(names)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Returns the path relative to the folder; of a path that leads out of it (lists may hold them) see :func:`inside`."""
        return inside(self.names[index])

    def location(self, index: int) -> str:
        """Returns the path."""
        return str(self.base / self.names[index])

    def read(self, index: int) -> Path:
        """Returns the path."""
        return self.base / self.names[index]

    def place(self, index: int) -> tuple[Path, int, int]:
        """Returns the path."""
        return self.base / self.names[index], 0, 0

    def stamp(self, index: int) -> str:
        """Returns the size and time of change."""
        return file_stamp(self.base / self.names[index])


class BucketSource:
    """Images in a bucket, an object each.

    Args:
        store: the bucket.
        names: of the objects in it.
    """

    def __init__(self, store: BucketStore, names: Iterable[str]) -> None:
        self._store = store
        self.names = PackedStrings(names)

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        """Returns the object's name below the root."""
        return self.names[index]

    def location(self, index: int) -> str:
        """Returns the address."""
        return f"{self._store.root}/{self.names[index]}"

    def read(self, index: int) -> bytes:
        """Returns the object's bytes."""
        return read_sample(self._store, self.names[index])

    def place(self, index: int) -> tuple[str, int, int]:
        """Returns the address."""
        return self.location(index), 0, 0

    def stamp(self, index: int) -> str:
        """Its size."""
        return f"{self._store.size(self.names[index])} bytes"


class ShardSource:
    """Members of plain tar files, read in place by offset.

    Where they are is known from the shards' indices (:mod:`dadkit.data.shard_index`), so a member is one seek and one read. The
    file is opened anew for each read, so that nothing is shared between loader workers.

    Args:
        shards: (name, path or address) of each tar file; members are named ``NAME/MEMBER``.
        extensions: members with another extension (captions, metadata) are left out.

    Raises:
        DataError: a shard is missing, is compressed or not a tar file, or is cut short.
    """

    def __init__(self, shards: Sequence[tuple[str, Path | str]], extensions: Sequence[str]) -> None:
        self._shards = list(shards)
        self.others: Counter[str] = Counter()
        places, ends = array("q"), array("q")

        def members() -> Iterator[str]:
            for _, path in self._shards:
                for member, offset, size in open_shard(path):
                    extension = member[len(stem(member)) :].lower()
                    if extension in extensions and not member.rpartition("/")[2].startswith("."):
                        places.extend((offset, size))
                        yield member
                    else:
                        self.others[extension or "no extension"] += 1
                ends.append(len(places) // 2)

        self._members = PackedStrings(members())
        self._places = np.array(places, dtype=np.int64).reshape(-1, 2)
        self._ends = ends

    def __len__(self) -> int:
        return len(self._members)

    def _shard(self, index: int) -> tuple[str, Path | str]:
        return self._shards[bisect_right(self._ends, index)]

    def name(self, index: int) -> str:
        """``SHARD/MEMBER``."""
        return inside(f"{self._shard(index)[0]}/{self._members[index]}")

    def location(self, index: int) -> str:
        """``path of the shard: member``."""
        return f"{self._shard(index)[1]}: {self._members[index]}"

    def read(self, index: int) -> bytes:
        """Returns the member's bytes."""
        offset, size = self._places[index].tolist()
        return read_range(self._shard(index)[1], offset, size)

    def place(self, index: int) -> tuple[Path | str, int, int]:
        """Returns the shard, and the member's place in it."""
        offset, size = self._places[index].tolist()
        return self._shard(index)[1], offset, size

    def stamp(self, index: int) -> str:
        """Returns the member's place, and the shard's time of change."""
        offset, size = self._places[index].tolist()
        return f"{offset}+{size} of {file_stamp(self._shard(index)[1])}"


def inside(name: str) -> str:
    """A relative path that stays below any folder it is joined to, as keys must: ``/a/../b`` -> ``a/_up/b``."""
    return "/".join("_up" if part == ".." else part for part in name.split("/") if part not in ("", "."))


def open_root(root: str | Path, extensions: Sequence[str]) -> list[Source]:
    """Returns the sources behind one root: a folder (images and tar shards in it), a list file, a tar file, a pattern of tar
    files, or the address of a bucket's folder or tar shards.

    Raises:
        DataError: it does not exist, is of another kind, or holds no image; the message says what was looked for and found.
    """
    if is_address(root):
        return _open_bucket(str(root), extensions)
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
    if path.suffix.lower() in LISTS:
        return [_open_list(path)]
    raise DataError(f"{path} is neither a folder, a list file ({', '.join(LISTS[:4])}) nor a tar shard (.tar)")


def _open_folder(path: Path, extensions: Sequence[str]) -> list[Source]:
    names, others = scan(path, {*extensions, ".tar"})
    tars = [n for n in names if n.lower().endswith(".tar")]
    files = FileSource(path, (n for n in names if not n.lower().endswith(".tar")))
    sources: list[Source] = [files] if len(files) else []
    unread = Counter({kind: count for kind, count in others.items() if kind in UNREAD or kind == OWN})
    if unread and sources:
        warnings.warn(f"{path}: left out {counted(unread)}", stacklevel=2)
    if tars:
        shards = ShardSource([(stem(n), path / n) for n in tars], extensions)
        others += shards.others
        sources += [shards] if len(shards) else []
    if not sources:
        raise DataError(_nothing_found(str(path.absolute()), extensions, others))
    return sources


def _open_bucket(root: str, extensions: Sequence[str]) -> list[Source]:
    if root.lower().endswith(".tar"):
        shards = expand_braces(root)
        paths = [shard.partition("://")[2] for shard in shards]
        common = os.path.commonpath([path.rpartition("/")[0] for path in paths])
        named = [(stem(path.removeprefix(common + "/")), shard) for path, shard in zip(paths, shards, strict=True)]
        return [_nonempty_shards(ShardSource(named, extensions), root, extensions)]
    store, names, tars = BucketStore(root), [], []
    others: Counter[str] = Counter()
    for name in store.everything():
        extension = name[len(stem(name)) :].lower()
        hidden = name.rpartition("/")[2].startswith(".")
        if extension == ".tar" and not hidden:
            tars.append(name)
        elif extension in extensions and not hidden:
            names.append(name)
        else:
            others[extension or "no extension"] += 1
    sources: list[Source] = [BucketSource(store, names)] if names else []
    if tars:
        shards_source = ShardSource([(stem(name), f"{store.root}/{name}") for name in tars], extensions)
        others += shards_source.others
        sources += [shards_source] if len(shards_source) else []
    if not sources:
        raise DataError(_nothing_found(root, extensions, others))
    return sources


def _shard_pattern(pattern: str) -> list[tuple[str, Path | str]]:
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
    base = path.parent
    source = FileSource(base, (os.path.normpath(raw).replace(os.sep, "/") for _, (raw,) in read_list(path, 1)))
    missing = [(number, name) for number, (name,) in read_list(path, 1) if not os.path.isfile(base / name)]
    if missing:
        number, name = missing[0]
        raise DataError(
            f"{len(missing)} of the {len(source)} files that {path} names do not exist, first line {number}: {name!r} "
            f"(looked for {(base / name).absolute()}; paths are relative to the list's folder)"
        )
    twice = repeated(source.names)
    if twice.any():
        name = source.names[int(twice.argmax())]
        numbers = [n for n, (raw,) in read_list(path, 1) if os.path.normpath(raw).replace(os.sep, "/") == name]
        raise DataError(
            f"{path} names {name!r} twice, in lines {numbers[0]} and {numbers[1]}; to see images more often, use weights"
        )
    return source


def _nothing_found(where: str, extensions: Sequence[str], others: Counter[str]) -> str:
    message = f"no images in {where}: looked for {', '.join(extensions)}, in all subfolders and tar shards"
    if others:
        extension, count = others.most_common(1)[0]
        message += f"; found {others.total()} other files, {count} of them {extension}"
    return message


def keys_with_suffix(names: Sequence[str]) -> np.ndarray:
    """Returns which names must keep their extension, so that no two keys are equal: ``a.jpg`` and ``a.png`` must, ``b.jpg``
    need not.

    Returns:
        (len(names),) bool.

    Raises:
        DataError: two names are equal.
    """
    keep = np.zeros(len(names), dtype=bool)
    keys = ComputedStrings(len(names), lambda index: names[index] if keep[index] else stem(names[index]))
    while True:
        clashing = repeated(keys)
        if not clashing.any():
            return keep
        if not (clashing & ~keep).any():
            raise DataError(f"two images have the same name: {keys[int(clashing.argmax())]!r}; rename one or take it out")
        keep |= clashing  # a kept name may clash with another's stem, which is then kept in the next round
