"""Threads that wait for each other: how long they spin, how many there are, and whether other processes want the same cores.

PyTorch's threads meet at barriers. By default a thread that arrives early spins for some 300,000 rounds; where another process
wants its core, it keeps the thread that everyone waits for from running. The commands bound that to 1000 rounds, and training
to 100 while other processes want the cores. On quiet cores 100 rounds, or ``OMP_WAIT_POLICY=PASSIVE``, cost a convolutional
student a third of its speed, which is why they are not always in force. ``benchmarks/threads.py`` compares the settings,
``benchmarks/results/threads.txt`` and docs/runs.md hold what it found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["SPIN_ROUNDS", "available_cores", "bound_spinning", "in_force", "keep_memory", "shared_cores", "yielding"]

SPIN_ROUNDS = 1000
_SPIN, _POLICY = "GOMP_SPINCOUNT", "OMP_WAIT_POLICY"
_WANTED, _FREE = 0.2, 0.05
"""Shares of the time that threads wait for a core, above which others want the cores, and below which they no longer do."""


def bound_spinning() -> bool:
    """Let waiting threads spin for at most :data:`SPIN_ROUNDS`, in this process and those that it starts.

    Returns:
        False if nothing was changed: the user has set ``GOMP_SPINCOUNT`` or ``OMP_WAIT_POLICY``, or torch is loaded, which has
        read them. GNU's OpenMP, which PyTorch's builds for Linux use, is the only one that knows the first.
    """
    if _SPIN in os.environ or _POLICY in os.environ or "torch" in sys.modules:
        return False
    os.environ[_SPIN] = str(SPIN_ROUNDS)
    return True


def _yields() -> bool:
    """True if :func:`yielding` may act: Linux, where the user has not chosen how threads wait."""
    chosen = os.environ.get(_SPIN, str(SPIN_ROUNDS)) != str(SPIN_ROUNDS) or _POLICY in os.environ
    return sys.platform.startswith("linux") and not chosen


@contextlib.contextmanager
def yielding(period: float = 0.5) -> Iterator[None]:
    """While other processes want this process's cores, its waiting threads sleep after about 100 rounds instead of spinning.

    Results are the same to the last bit. Nothing happens outside of Linux, with another OpenMP than GNU's, and where the user
    has set ``OMP_WAIT_POLICY``, or ``GOMP_SPINCOUNT`` to anything but :data:`SPIN_ROUNDS`.

    Args:
        period: seconds between two looks at how long this process's threads have waited for a core.
    """
    if not _yields():
        yield
        return
    ended = threading.Event()
    watch = threading.Thread(target=_watch, args=(ended, period), name="dadkit-yielding", daemon=True)
    watch.start()
    try:
        yield
    finally:
        ended.set()
        watch.join()


def _watch(ended: threading.Event, period: float) -> None:
    with contextlib.ExitStack() as crowd:
        crowded, waited, since = False, _waited(), time.monotonic()
        while not ended.wait(period):
            before, began = waited, since
            waited, since = _waited(), time.monotonic()
            share = (waited - before) / (since - began)
            if not crowded and share > _WANTED:
                crowd.enter_context(_crowd())
                crowded = True
            elif crowded and share < _FREE:
                crowd.close()
                crowded = False


def _waited() -> float:
    """Returns for how many seconds this process's threads, added up, were ready to run and had no core."""
    total = 0
    for thread in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError, IndexError):  # it has ended, or the kernel does not count
            total += int((thread / "schedstat").read_text().split()[1])
    return total / 1e9


@contextlib.contextmanager
def _crowd() -> Iterator[None]:
    """More OpenMP threads than cores, all asleep: as long as they are there, GNU's OpenMP lets no thread spin for long."""
    started, leave = threading.Event(), threading.Event()

    def stay() -> None:
        library = ctypes.CDLL(None)
        with contextlib.suppress(AttributeError):  # another OpenMP
            library.GOMP_parallel(ctypes.cast(library.getpid, ctypes.c_void_p), None, len(os.sched_getaffinity(0)) + 1, 0)
        started.set()
        leave.wait()  # its team is there until it ends

    thread = threading.Thread(target=stay, name="dadkit-crowd", daemon=True)
    thread.start()
    started.wait()
    try:
        yield
    finally:
        leave.set()
        thread.join()


def keep_memory() -> bool:
    """Let this process keep the memory of large maps that it frees, for the next ones.

    glibc gives such memory back at once; getting it again, page by page, took a third of a labelling worker's time on a CPU,
    and a tenth to a quarter of a training step's. `dadkit predict` gains nothing by it and would take an eighth more memory.

    Returns:
        False if nothing was changed: the user has set ``MALLOC_MMAP_MAX_``, or the C library is not glibc.
    """
    if "MALLOC_MMAP_MAX_" in os.environ or not sys.platform.startswith("linux"):
        return False
    try:
        set_option = ctypes.CDLL(None).mallopt
    except AttributeError:
        return False
    most_mapped, least_trimmed = -4, -1  # M_MMAP_MAX, M_TRIM_THRESHOLD of malloc.h
    return bool(set_option(most_mapped, 0)) and bool(set_option(least_trimmed, 2**30))


def available_cores() -> int:
    """Returns how many cores this process may use: its affinity, or its container's quota where that is less. At least 1."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        cores = cores if quota == "max" else min(cores, round(int(quota) / int(period)))
    except (OSError, ValueError):
        pass  # no Linux, or no quota
    return max(1, cores)


def in_force(threads: int) -> str:
    """Returns how many threads there are and how long they spin, in words.

    Args:
        threads: what ``torch.get_num_threads()`` says.
    """
    cores = available_cores()
    policy = os.environ.get(_POLICY, "the library's default").lower()
    spin = f"for {os.environ[_SPIN]} rounds" if _SPIN in os.environ else f"by {policy}"
    if _yields():
        spin += ", in training for 100 while other processes want the cores"
    return f"{threads} thread{'s' * (threads != 1)} on {cores} core{'s' * (cores != 1)}, spinning {spin}"


def shared_cores(threads: int) -> str | None:
    """Returns a warning if other processes want the cores that the threads need, or if there are more threads than cores.

    Call it before this process computes: the load of the last minute counts it too.

    Args:
        threads: what ``torch.get_num_threads()`` says.
    """
    cores = available_cores()
    if threads > cores:
        return f"{threads} threads share {cores} cores and wait for each other; set OMP_NUM_THREADS={cores}"
    busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    free = max(1, round(cores - busy))
    if threads == 1 or free >= threads or cores < (os.cpu_count() or 1):
        return None  # with an affinity or quota of its own, the machine's load says nothing about these cores
    return (
        f"other processes keep {min(busy, cores):.1f} of {cores} cores busy, and {threads} threads wait for each other; "
        f"OMP_NUM_THREADS={free} may be faster"
    )
