"""Which sample stands at which position of an endless stream: a pure function of the seed, so that resuming needs one number.

Nothing here has a state. Each dataset is gone through in epochs, every epoch in a new random order without repetition; several
datasets are interleaved in fixed proportions.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

__all__ = ["Mixture", "Permutation", "Windows", "derive", "nth_in_order"]

_MASK64 = 2**64 - 1
_ROUNDS = 8


def derive(seed: int, *parts: str | int) -> int:
    """Returns a 63-bit seed that depends on every part: ``derive(0, "main", "item", 12)``. The same on every machine."""
    text = "\x1f".join([str(seed), *map(str, parts)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


class Permutation:
    """A pseudo-random order of 0 … n - 1 in constant memory, however large n is.

    A Feistel network permutes the smallest range of 4^m >= max(n, 64) numbers; results outside 0 … n - 1 are permuted again
    until they fall inside (cycle walking), which keeps the map one-to-one.

    Args:
        size: n, at least 1.
        seed: decides the order.
    """

    def __init__(self, size: int, seed: int) -> None:
        if size < 1:
            raise ValueError(f"a permutation needs at least one element, got {size}")
        self.size = size
        # At least 64 numbers: a network on fewer reaches only a part of all orders.
        self._bits = max(3, ((size - 1).bit_length() + 1) // 2)
        self._keys = [derive(seed, "round", number) for number in range(_ROUNDS)]

    def __len__(self) -> int:
        return self.size

    def __call__(self, index: int) -> int:
        """Returns the element at place ``index``."""
        if not 0 <= index < self.size:
            raise IndexError(f"place {index} of {self.size}")
        if self.size == 1:
            return 0
        while True:
            index = self._encrypt(index)
            if index < self.size:
                return index

    def _encrypt(self, value: int) -> int:
        mask = (1 << self._bits) - 1
        left, right = value >> self._bits, value & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right + key) & mask)
        return left << self._bits | right


def _mixed(value: int) -> int:
    """Applies the finaliser of SplitMix64: every input bit changes each output bit with probability about 1/2."""
    value &= _MASK64
    value = (value ^ value >> 30) * 0xBF58476D1CE4E5B9 & _MASK64
    value = (value ^ value >> 27) * 0x94D049BB133111EB & _MASK64
    return value ^ value >> 31


@lru_cache(maxsize=16)
def _order(size: int, seed: int) -> Permutation:
    return Permutation(size, seed)


def nth_in_order(number: int, size: int, seed: int, *, skip: int = 0) -> int:
    """Returns the index drawn ``number``-th (from 0) from a dataset of ``size`` samples that is gone through in epochs.

    Args:
        number: how many were drawn from this dataset before.
        size: the dataset's length.
        seed: decides the orders.
        skip: take the sample this many places later in the same epoch's order (from its end on to its beginning): the
            replacement for one that could not be read. In a random order, so that a folder of broken files does not put its
            whole share on the one good file that follows it by name.
    """
    epoch, place = divmod(number, size)
    return _order(size, derive(seed, "epoch", epoch))((place + skip) % size)


class Windows:
    """Which sample is drawn from files of many, so that at most ``window`` files are read from at any time.

    As :func:`nth_in_order`, a pure function of seed and position. Each epoch puts the files in a random order, takes ``window``
    of them after the other, and mixes the samples of these.

    Args:
        ends: (files,) int64, where each file's samples end; each file has at least one.
        window: files that are mixed.

    Example:
        >>> drawn = Windows(np.array([2, 5, 6]), window=2)
        >>> sorted(drawn(n, seed=0) for n in range(6))
        [0, 1, 2, 3, 4, 5]
    """

    def __init__(self, ends: np.ndarray, window: int) -> None:
        self._ends, self._window = ends, window
        self._order: tuple[int, np.ndarray, np.ndarray] | None = None  # of the last epoch asked for

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "_order": None}

    def __call__(self, number: int, seed: int, *, skip: int = 0) -> int:
        """Returns the index drawn ``number``-th; ``skip`` as in :func:`nth_in_order`."""
        size = int(self._ends[-1])
        epoch, place = divmod(number, size)
        place = (place + skip) % size
        files, stops = self._files(derive(seed, "files", epoch))
        file = int(np.searchsorted(stops, place, side="right"))
        first = file - file % self._window
        last = min(first + self._window, len(files)) - 1
        begin = int(stops[first - 1]) if first else 0
        inside = begin + _order(int(stops[last]) - begin, derive(seed, "window", epoch, first))(place - begin)
        file = int(np.searchsorted(stops, inside, side="right"))
        return int(self._ends[files[file]]) - int(stops[file]) + inside

    def _files(self, seed: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the files in an epoch's order, and where the samples of each end in it."""
        if self._order is None or self._order[0] != seed:
            files = np.random.Generator(np.random.PCG64(seed)).permutation(len(self._ends))
            self._order = seed, files, np.cumsum(np.diff(self._ends, prepend=0)[files])
        return self._order[1:]


class Mixture:
    """Interleaves several sources in fixed proportions, as evenly as possible.

    Among the first p positions source i stands p * w_i / sum(w) times, up to an error of less than one per source, for every p.

    Args:
        weights: relative shares, each positive.
    """

    _UNIT = 1 << 62  # shares as integers: exact at any position, on any machine

    def __init__(self, weights: Sequence[float]) -> None:
        if not weights or not all(0 < w < float("inf") for w in weights):
            raise ValueError(f"a mixture needs positive weights, got {list(weights)}")
        # Source i against all that come after it; the last takes what is left.
        self._shares = [round(w / sum(weights[i:]) * self._UNIT) for i, w in enumerate(weights[:-1])]

    def __call__(self, position: int) -> tuple[int, int]:
        """(source, number): which sample is at ``position``, and how often it was at an earlier one."""
        for source, share in enumerate(self._shares):
            before = position * share // self._UNIT
            if (position + 1) * share // self._UNIT > before:
                return source, before
            position -= before
        return len(self._shares), position
