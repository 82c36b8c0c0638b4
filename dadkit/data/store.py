"""Whole objects by name, in a folder or in an object store: written whole or not at all, and once where that matters.

A name is created *exclusively* by :meth:`Store.create`: of several writers one wins, and the others learn it. In a folder this
is ``link``, which is atomic on local file systems and NFS; in an object store it is a conditional write. Nothing is ever
renamed in an object store, where that would be a copy of gigabytes that others can see half done.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from dadkit.errors import DadkitError, DataError, SampleError
from dadkit.files import write_bytes

__all__ = ["BucketStore", "FolderStore", "Store", "file_stamp", "is_address", "locate", "open_store", "read_sample"]

_AT_ONCE = 16  # requests
_BLOCK = 4 << 20  # bytes of a request while an object is read from its beginning on


class Store(Protocol):
    """Objects below one root. Names are relative, with ``/`` between parts.

    Attributes:
        root: path or address.
        remote: each question is a request.
    """

    root: str
    remote: bool

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """Returns the object's bytes, or those from ``start`` to ``stop``. Raises FileNotFoundError if there is none."""
        ...

    def size(self, name: str) -> int:
        """Returns the number of bytes. Raises FileNotFoundError."""
        ...

    def names(self, prefix: str, parts: Sequence[str] = ("",)) -> list[str]:
        """Returns the names (without folder) of the objects in the folder ``prefix``, sorted; hidden ones are left out.

        ``parts`` are beginnings of names that may occur. A bucket is asked for them at once, where one list would come page by
        page.
        """
        ...

    def create(self, name: str, data: bytes, *, lasting: bool = True) -> bool:
        """Returns True if the object was created by this call, False if it exists already. It is never replaced.

        ``lasting=False``: it may be lost with the machine's power, which saves the time of two syncs to disk.
        """
        ...

    def write(self, name: str, data: bytes) -> None:
        """Create or replace an object."""
        ...

    def scratch(self) -> Path:
        """Returns a new name for a file that :meth:`publish` will take; its folder exists."""
        ...

    def publish(self, file: Path, name: str) -> None:
        """Make the finished local ``file`` the object ``name``, whole or not at all. ``file`` is then gone."""
        ...

    def remove(self, name: str) -> None:
        """Remove an object, if it is there."""
        ...

    def age(self, name: str) -> float:
        """Returns the seconds since the object was last written; infinity if there is none."""
        ...

    def open(self, name: str) -> BinaryIO:
        """Returns the object as a file to read and seek in. Raises FileNotFoundError if there is none."""
        ...

    def changed(self, name: str) -> tuple[int, int]:
        """Returns the object's size in bytes and its time of change in nanoseconds. Raises FileNotFoundError."""
        ...


class FolderStore:
    """A :class:`Store` in a local or network folder."""

    remote = False

    def __init__(self, root: str | Path) -> None:
        self.root = str(Path(root).expanduser().absolute())

    def _path(self, name: str) -> Path:
        return Path(self.root) / name

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See :class:`Store`."""
        with self._path(name).open("rb") as handle:
            handle.seek(start)
            return handle.read() if stop is None else handle.read(stop - start)

    def size(self, name: str) -> int:
        """See :class:`Store`."""
        return self._path(name).stat().st_size

    def names(self, prefix: str, parts: Sequence[str] = ("",)) -> list[str]:
        """See :class:`Store`."""
        try:
            return sorted(name for name in os.listdir(self._path(prefix)) if not name.startswith("."))
        except FileNotFoundError:
            return []

    def create(self, name: str, data: bytes, *, lasting: bool = True) -> bool:
        """See :class:`Store`."""
        path = self._path(name)
        temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("wb") as handle:
                handle.write(data)
                handle.flush()
                if lasting:
                    os.fsync(handle.fileno())
            try:
                os.link(temporary, path)
            except FileExistsError:
                return False
            if lasting:
                _sync_folder(path.parent)
        except OSError as error:
            raise _cannot_write(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)
        return True

    def write(self, name: str, data: bytes) -> None:
        """See :class:`Store`."""
        write_bytes(self._path(name), data)

    def scratch(self) -> Path:
        """See :class:`Store`."""
        folder = self._path("data")
        folder.mkdir(parents=True, exist_ok=True)
        return folder / f".{uuid.uuid4().hex}.tmp"

    def publish(self, file: Path, name: str) -> None:
        """See :class:`Store`."""
        path = self._path(name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with file.open("rb") as handle:
                os.fsync(handle.fileno())
            file.replace(path)
            _sync_folder(path.parent)
        except OSError as error:
            raise _cannot_write(path, error) from error

    def remove(self, name: str) -> None:
        """See :class:`Store`."""
        self._path(name).unlink(missing_ok=True)

    def age(self, name: str) -> float:
        """See :class:`Store`."""
        try:
            return time.time() - self._path(name).stat().st_mtime
        except FileNotFoundError:
            return float("inf")

    def open(self, name: str) -> BinaryIO:
        """See :class:`Store`."""
        return self._path(name).open("rb")

    def changed(self, name: str) -> tuple[int, int]:
        """See :class:`Store`."""
        status = self._path(name).stat()
        return status.st_size, status.st_mtime_ns


class BucketStore:
    """A :class:`Store` behind fsspec: ``s3://bucket/folder``, ``gs://…``, ``memory://…``.

    Args:
        root: the address.
        probe: write one small object twice, and refuse the store if the second write is not refused.

    Raises:
        DataError: fsspec or the store's package is missing, the bucket cannot be written, or it has no exclusive writes.
    """

    remote = True

    def __init__(self, root: str, *, probe: bool = False) -> None:
        self.root = root.rstrip("/")
        self._opened: tuple[int, Any, str] | None = None
        if probe:
            self._probe()

    @property
    def _fs(self) -> Any:
        if self._opened is None or self._opened[0] != os.getpid():  # event loops do not survive a fork
            try:
                from fsspec.core import url_to_fs

                options = {"skip_instance_cache": True, "use_listings_cache": False}
                filesystem, path = url_to_fs(self.root, **({} if self.root.startswith("memory:") else options))
            except (ImportError, ValueError) as error:
                raise DataError(
                    f"cannot open {self.root}: {error}. pip install 'dadkit[s3]' for s3://, gcsfs for gs://"
                ) from error
            self._opened = (os.getpid(), filesystem, path.rstrip("/"))
        return self._opened[1]

    def _path(self, name: str) -> str:
        return f"{self._fs and self._opened and self._opened[2]}/{name}"

    def __getstate__(self) -> dict[str, Any]:
        return {"root": self.root, "_opened": None}

    def _probe(self) -> None:
        name = f"probe-{uuid.uuid4().hex}"
        try:
            first, second = self.create(name, b"1"), self.create(name, b"2")
            self.remove(name)
        except (OSError, NotImplementedError, ValueError, TypeError) as error:
            raise DataError(f"{self.root} cannot be written exclusively: {error or type(error).__name__}") from error
        if not first or second:
            raise DataError(
                f"{self.root} lets a second writer replace what a first has written (no If-None-Match), so labels could be "
                "lost; label into a folder and copy it"
            )

    def read(self, name: str, start: int = 0, stop: int | None = None) -> bytes:
        """See :class:`Store`."""
        data: bytes = self._fs.cat_file(self._path(name), start=start or None, end=stop)
        return data

    def size(self, name: str) -> int:
        """See :class:`Store`."""
        return int(self._fs.info(self._path(name))["size"])

    def names(self, prefix: str, parts: Sequence[str] = ("",)) -> list[str]:
        """See :class:`Store`."""
        folder, filesystem = self._path(prefix), self._fs

        def listed(part: str) -> list[str]:
            try:
                found: list[str] = filesystem.find(folder, prefix=part) if part else filesystem.ls(folder, detail=False)
            except FileNotFoundError:
                return []
            return found

        with ThreadPoolExecutor(_AT_ONCE) as askers:
            paths = {path for found in askers.map(listed, parts) for path in found}
        return sorted(name for path in paths if (name := path.rpartition("/")[2]) and not name.startswith("."))

    def everything(self) -> list[str]:
        """Returns the names of all objects below the root, with their folders, sorted.

        Raises:
            DataError: the bucket cannot be listed.
        """
        try:
            found = self._fs.find(self._path("").rstrip("/"))
        except OSError as error:
            raise DataError(f"cannot list {self.root}: {error.strerror or error}") from error
        return sorted(path.removeprefix(self._path("")) for path in found)

    def create(self, name: str, data: bytes, *, lasting: bool = True) -> bool:
        """See :class:`Store`."""
        try:
            self._fs.pipe_file(self._path(name), data, mode="create")
        except FileExistsError:
            return False
        return True

    def write(self, name: str, data: bytes) -> None:
        """See :class:`Store`."""
        self._fs.pipe_file(self._path(name), data)

    def scratch(self) -> Path:
        """See :class:`Store`."""
        return Path(tempfile.mkdtemp(prefix="dadkit-label-")) / "part"

    def publish(self, file: Path, name: str) -> None:
        """See :class:`Store`."""
        try:
            self._fs.put_file(str(file), self._path(name))
        except OSError as error:
            raise _cannot_write(f"{self.root}/{name}", error) from error
        shutil.rmtree(file.parent, ignore_errors=True)

    def remove(self, name: str) -> None:
        """See :class:`Store`."""
        try:
            self._fs.rm_file(self._path(name))
        except FileNotFoundError:
            return

    def age(self, name: str) -> float:
        """See :class:`Store`."""
        try:
            return time.time() - float(self._fs.modified(self._path(name)).timestamp())
        except FileNotFoundError:
            return float("inf")

    def open(self, name: str) -> BinaryIO:
        """See :class:`Store`."""
        file: BinaryIO = self._fs.open(self._path(name), "rb", block_size=_BLOCK)
        return file

    def changed(self, name: str) -> tuple[int, int]:
        """See :class:`Store`."""
        return self.size(name), round(1e9 * float(self._fs.modified(self._path(name)).timestamp()))


def open_store(root: str | Path, *, probe: bool = False) -> FolderStore | BucketStore:
    """Returns the store of a folder, or of an address with ``://``.

    Args:
        root: where.
        probe: check that the store refuses a second writer, see :class:`BucketStore`.
    """
    return BucketStore(str(root), probe=probe) if is_address(root) else FolderStore(root)


def is_address(root: object) -> bool:
    """Returns True for ``s3://…`` and the like, False for paths."""
    return "://" in str(root)


@lru_cache(maxsize=64)
def _bucket(root: str) -> BucketStore:
    return BucketStore(root)


def locate(place: str | Path) -> tuple[Store, str]:
    """Returns the store that holds a file or the object of an address, and its name there."""
    if isinstance(place, str) and is_address(place):
        root, _, name = place.rpartition("/")
        return _bucket(root), name
    path = Path(place)
    return FolderStore(path.parent), path.name


def file_stamp(place: str | Path) -> str:
    """Returns the size and time of change of a file, or of the object of an address, as text."""
    store, name = locate(place)
    try:
        size, changed = store.changed(name)
    except OSError:
        return "unreadable"
    return f"{size} bytes, {changed}"


def read_sample(store: Store, name: str) -> bytes:
    """Returns the bytes of an image. Raises :class:`SampleError` if they cannot be had."""
    try:
        return store.read(name)
    except FileNotFoundError as error:
        raise SampleError("the file does not exist") from error
    except OSError as error:
        raise SampleError(f"the file cannot be read: {error.strerror or error}") from error


def _cannot_write(path: object, error: OSError) -> DadkitError:
    return DadkitError(f"cannot write {path}: {error.strerror or error}; free some space or choose another folder")


def _sync_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
