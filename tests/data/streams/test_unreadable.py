"""What cannot be read: replaced, counted, named, and refused where it is too much; and workers that die."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from dadkit.contexts import LocalGlobal
from dadkit.data import Images, Member, Sample, Stream
from dadkit.errors import DataError

Make = Callable[..., Any]


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_corrupt_photos_of_a_hundred_are_counted_once_each(stream: Make, photos: Path, workers: int) -> None:
    with stream(Images(photos), batch_size=10, workers=workers) as it:
        keys = [key for batch in islice(it, 30) for key in batch.keys]  # three epochs
    corrupt = {f"{n:03d}" for n in (7, 20, 21, 22, 23, 50, 51, 80, 81, 99)}
    assert it.errors.keys() == corrupt
    assert "the file is empty" in it.errors["007"]
    assert "a web page" in it.errors["021"]
    assert it.failed_reads >= 30  # at least once an epoch, and again as a replacement
    assert it.reads == 300 + it.failed_reads
    assert not corrupt & set(keys)
    assert len(set(keys)) == 90
    # Replacements are spread: no good photograph takes the share of all the broken ones beside it.
    assert max(Counter(keys).values()) <= 3 * 3


def test_too_many_unreadable_samples_stop_the_run(numbers: Any, stream: Make) -> None:
    it = stream(numbers(1000, broken=range(0, 1000, 3)), max_error_rate=0.2, min_reads=100)
    with pytest.raises(
        DataError, match=r"(?s)of the 1\d\d samples that stream 'main/unlabelled' has tried .*file-\d+: broken"
    ) as e:
        list(islice(it, 100))
    assert e.value.exit_code == 3
    assert it.reads >= 100
    tolerant = stream(numbers(1000, broken=range(0, 1000, 3)), max_error_rate=0.5)
    assert len(list(islice(tolerant, 60))) == 60
    strict = stream(numbers(1000, broken=range(0, 1000, 3)), max_error_rate=0)
    with pytest.raises(DataError, match="max_error_rate = 0 allows"):
        list(islice(strict, 10))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_of_which_nothing_can_be_read_says_so(numbers: Any, stream: Make, workers: int) -> None:
    it = stream(numbers(20, broken=range(20)), numbers(5), max_error_rate=1.0, workers=workers)
    with it, pytest.raises(DataError, match=r"^dataset 'd0': 20 samples in a row could not be read, the last d0/\d+: file-"):
        next(it)


def test_the_account_of_errors_survives_a_restart(numbers: Any, stream: Make) -> None:
    dataset = numbers(100, broken=range(10))
    whole = stream(dataset, batch_size=10)
    list(islice(whole, 20))
    first = stream(dataset, batch_size=10)
    list(islice(first, 7))
    second = stream(dataset, batch_size=10)
    second.restore(first.state())
    list(islice(second, 13))
    assert second.state() == whole.state()
    assert len(second.errors) == 10


def test_two_datasets_of_one_name_are_told_apart(contexts: LocalGlobal, numbers: Any) -> None:
    it = Stream(
        [Member("images", numbers(20, broken=[3])), Member("images", numbers(20, broken=[3]))],
        contexts,
        batch_size=8,
        seed=0,
        name="main/unlabelled",
    )
    list(islice(it, 5))
    assert it.errors == {"images/3": "file-3: broken", "images#2/3": "file-3: broken"}


def test_other_exceptions_of_a_dataset_end_the_run(numbers: Any, stream: Make) -> None:
    class Buggy(numbers):
        def __getitem__(self, index: int) -> Sample:
            raise KeyError("a bug")

    for workers in (0, 1):
        with stream(Buggy(5), workers=workers) as it, pytest.raises(KeyError, match="a bug"):
            next(it)


def test_a_dead_worker_is_explained(numbers: Any, stream: Make) -> None:
    class Deadly(numbers):
        def __getitem__(self, index: int) -> Sample:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    with stream(Deadly(5), workers=1) as it, pytest.raises(DataError, match=r"a loader process of stream .* died"):
        next(it)


def test_interrupts_do_not_reach_the_workers_and_closing_ends_them(numbers: Any, stream: Make) -> None:
    class Pids(numbers):
        def __getitem__(self, index: int) -> Sample:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C reaches the whole process group
            return Sample(torch.zeros(3, 40, 40, dtype=torch.uint8), str(os.getpid()))

    it = stream(Pids(50), workers=2)
    pids = {int(key) for batch in islice(it, 8) for key in batch.keys}
    assert os.getpid() not in pids
    assert len(pids) == 2
    it.close()
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(next(it).keys) == 4  # and it can go on
    it.close()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True
