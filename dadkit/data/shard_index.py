"""What a tar shard holds and where: its headers, read once and then kept in a small file beside it.

Reading the headers of a shard takes about 40 microseconds a member, for every process at every start; the kept index takes a
thousandth of that. ``photos-000.tar`` gets ``photos-000.tar.index`` beside it or, where its folder or bucket cannot be written
(or another file has that name), a file in ``$XDG_CACHE_HOME/dadkit/shards`` (``~/.cache`` by default). An index counts for the
size and the modification time of the shard that it was made from; of another shard it is ignored and made anew. It holds
nothing that the shard does not, so it may be deleted at any time.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from dadkit.data.packed import PackedStrings
from dadkit.data.store import locate
from dadkit.errors import DadkitError, DataError, SampleError

__all__ = ["ShardIndex", "index_file", "open_shard"]

FORMAT = 1


@dataclass(frozen=True, eq=False)
class ShardIndex:
    """The regular files of one tar shard, in the order of the archive; of two with one name the later counts, as in tar.

    Attributes:
        path: the shard: a file, or the address of an object.
        names: n names, as the archive has them.
        offsets: (n,) int64, where the bytes of each begin.
        sizes: (n,) int64, how many they are.
    """

    path: Path | str
    names: PackedStrings
    offsets: np.ndarray
    sizes: np.ndarray

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[str, int, int]]:
        """(name, offset, size) of each member."""
        return zip(self.names, self.offsets.tolist(), self.sizes.tolist(), strict=True)

    def read(self, member: int) -> bytes:
        """Returns the bytes of a member.

        Raises:
            SampleError: the shard is gone, or is shorter than when it was indexed.
        """
        return read_range(self.path, int(self.offsets[member]), int(self.sizes[member]))


def open_shard(path: Path | str) -> ShardIndex:
    """Returns the index of a shard: the kept one if it is of this very file, else a new one, which is then kept.

    Args:
        path: the shard; or its address in a bucket, where it is then read once as a whole.

    Raises:
        DataError: the shard is missing, is compressed or not a tar file, or is cut short.
    """
    try:
        stamp = _stamp(path)
    except FileNotFoundError as error:
        raise DataError(f"the tar shard {path} does not exist") from error
    except OSError as error:
        raise DataError(f"cannot read the tar shard {path}: {error.strerror or error}") from error
    places = (index_file(path), _in_cache(path))
    for place in places:
        kept = _load(place, path)
        if kept is not None and kept[0] == stamp:
            return kept[1]
    index = _read_headers(path)
    if _stamp(path) == stamp:  # else it was written to while it was read
        _keep(index, stamp, places)
    return index


def index_file(path: Path | str) -> Path | str:
    """Returns where the index of a shard is kept if its folder or bucket can be written."""
    return path.with_name(path.name + ".index") if isinstance(path, Path) else path + ".index"


def read_range(path: Path | str, offset: int, size: int) -> bytes:
    """``size`` bytes of a shard from ``offset`` on. Raises :class:`SampleError` if they cannot be had."""
    store, name = locate(path)
    try:
        data = store.read(name, offset, offset + size) if size else b""
    except OSError as error:
        raise SampleError(f"the shard cannot be read: {error.strerror or error}") from error
    if len(data) < size:
        raise SampleError(f"the shard ends after {len(data)} of the member's {size} bytes")
    return data


def _stamp(path: Path | str) -> tuple[int, int]:
    store, name = locate(path)
    return store.changed(name)


def _in_cache(path: Path | str) -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    whole = os.fsencode(path.absolute() if isinstance(path, Path) else path)
    return cache / "dadkit" / "shards" / f"{hashlib.sha256(whole).hexdigest()[:32]}.index"


def _load(place: Path | str, shard: Path | str) -> tuple[tuple[int, int], ShardIndex] | None:
    """Stamp and index that are kept at ``place``; None if there is no file, or one that is no whole index."""
    store, name = locate(place)
    try:
        with np.load(io.BytesIO(store.read(name)), allow_pickle=False) as arrays:
            version, size, changed = arrays["stamp"].tolist()
            if version != FORMAT:
                return None
            names = PackedStrings.from_arrays(arrays["names"], arrays["lengths"])
            index = ShardIndex(shard, names, np.cumsum(arrays["gaps"]), arrays["sizes"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None
    return ((size, changed), index) if len(index) == len(index.offsets) == len(index.sizes) else None


def _keep(index: ShardIndex, stamp: tuple[int, int], places: tuple[Path | str, ...]) -> None:
    """Write the index to the first of ``places`` that can be written; a file there that is no index stays as it is."""
    buffer = io.BytesIO()
    np.savez_compressed(
        buffer,
        stamp=np.array([FORMAT, *stamp], dtype=np.int64),
        names=index.names.bytes,
        lengths=index.names.lengths,
        gaps=np.diff(index.offsets, prepend=0),
        sizes=index.sizes,
    )
    for place in places:
        store, name = locate(place)
        try:
            if store.age(name) < float("inf") and _load(place, index.path) is None:
                continue
            store.write(name, buffer.getvalue())
        except (DadkitError, OSError):
            continue
        return


def _read_headers(path: Path | str) -> ShardIndex:
    members: dict[str, tuple[int, int]] = {}
    store, name = locate(path)
    try:
        with store.open(name) as handle, tarfile.open(name, "r:", fileobj=handle) as tar:
            for member in tar:
                if member.isreg() and not member.issparse():
                    members[member.name] = (member.offset_data, member.size)
                tar.members.clear()  # type: ignore[attr-defined]  # tarfile remembers every header it has seen
            _check_end(handle, tar.offset)
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"cannot read the tar shard {path} ({len(members)} members were readable): {error}. Shards must be plain tar "
            "files, not compressed, and whole; take it out of the root or get it again"
        ) from error
    places = np.array(list(members.values()), dtype=np.int64).reshape(-1, 2)
    return ShardIndex(path, PackedStrings(members), places[:, 0].copy(), places[:, 1].copy())


def _check_end(handle: BinaryIO, offset: int) -> None:
    """Refuse what follows the last member and is not zeros. ``tarfile`` takes garbage and half a header for the end, too."""
    handle.seek(offset)
    block = handle.read(tarfile.BLOCKSIZE)
    if block and (len(block) < tarfile.BLOCKSIZE or any(block)):
        raise tarfile.ReadError(f"no valid header at byte {offset}")
