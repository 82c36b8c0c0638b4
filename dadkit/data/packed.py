"""Long lists of short strings without a Python object for each: what an index of millions of file names needs."""

from __future__ import annotations

import builtins
from abc import abstractmethod
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, overload

import numpy as np

__all__ = ["ComputedStrings", "PackedStrings", "repeated"]


class _Strings(Sequence[str]):
    """A sequence of strings that are made when they are asked for, by :meth:`at`."""

    @abstractmethod
    def at(self, index: int) -> str:
        """Returns the string at ``index``, which is in range."""

    def __iter__(self) -> Iterator[str]:
        return map(self.at, range(len(self)))

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...

    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self.at(i) for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of {len(self)} strings")
        return self.at(index % len(self))


class PackedStrings(_Strings):
    """An immutable sequence of strings in two arrays: the UTF-8 bytes of all, and where each begins.

    A million names of 40 characters take 48 MB here and 97 MB in a list, and forked loader workers share the memory for good: a
    list's reference counts make them copy it page by page. Names that are not valid UTF-8 survive (surrogate escapes).
    """

    def __init__(self, strings: Iterable[str]) -> None:
        data, lengths = bytearray(), array("q")
        for string in strings:
            encoded = string.encode("utf-8", "surrogateescape")
            data += encoded
            lengths.append(len(encoded))
        self._set(bytes(data), np.array(lengths, dtype=np.int64))

    @classmethod
    def from_arrays(cls, data: np.ndarray, lengths: np.ndarray) -> PackedStrings:
        """Returns the strings of :attr:`bytes` and :attr:`lengths`.

        Raises:
            ValueError: the two do not fit.
        """
        if int(lengths.sum()) != len(data) or data.dtype != np.uint8 or (lengths < 0).any():
            raise ValueError("the lengths are not those of the bytes")
        packed = cls.__new__(cls)
        packed._set(data.tobytes(), lengths)
        return packed

    def _set(self, data: builtins.bytes, lengths: np.ndarray) -> None:
        self._starts = np.zeros(len(lengths) + 1, dtype=np.int64)
        np.cumsum(lengths, out=self._starts[1:])
        self._bytes = data

    def __len__(self) -> int:
        return len(self._starts) - 1

    def at(self, index: int) -> str:
        """Returns the string at ``index``."""
        return self._bytes[self._starts[index] : self._starts[index + 1]].decode("utf-8", "surrogateescape")

    @property
    def bytes(self) -> np.ndarray:
        """The UTF-8 bytes of all strings, one after the other, uint8."""
        return np.frombuffer(self._bytes, dtype=np.uint8)

    @property
    def lengths(self) -> np.ndarray:
        """(n,) uint32, the number of bytes of each string."""
        return np.diff(self._starts).astype(np.uint32)

    @property
    def nbytes(self) -> int:
        """Memory of the names and their starts, in bytes."""
        return len(self._bytes) + self._starts.nbytes


class ComputedStrings(_Strings):
    """``count`` strings that a function makes of 0 … count - 1; they take no memory."""

    def __init__(self, count: int, function: Callable[[int], str]) -> None:
        self._count, self._function = count, function

    def __len__(self) -> int:
        return self._count

    def at(self, index: int) -> str:
        """Returns what the function makes of ``index``."""
        return self._function(index)


def repeated(strings: Sequence[str]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Returns which strings occur more than once, as (n,) bool.

    Takes some 8-byte numbers a string; only strings with equal hashes are looked at themselves.

    >>> repeated(["a", "b", "a"]).tolist()
    [True, False, True]
    """
    hashes = np.fromiter(map(hash, strings), dtype=np.int64, count=len(strings))
    ordered = np.sort(hashes)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if not len(twice):
        return np.zeros(len(strings), dtype=bool)
    found = np.isin(hashes, twice)
    candidates = np.flatnonzero(found)
    counts = Counter(strings[index] for index in candidates.tolist())
    found[candidates] = [counts[strings[index]] > 1 for index in candidates.tolist()]
    return found
