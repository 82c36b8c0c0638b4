"""Endless, repeatable streams of batches, read by worker processes, with an account of what could not be read."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Self

import torch
from torch.utils.data import DataLoader

from dadkit.data.cutmix import CutMix
from dadkit.data.reading import BatchReader, Member, Reading
from dadkit.data.sample import Batch
from dadkit.data.views import Perturb
from dadkit.errors import DataError
from dadkit.interfaces import ContextSampler
from dadkit.spaces import Space

__all__ = ["Member", "Stream"]


class Stream:
    """An endless iterator over batches, at a position that counts the samples drawn so far.

    The batch at a position depends on (seed, name, position) only: not on the number of workers, not on what was read before.
    So a run that goes on at the position where it was killed sees, bit for bit, what it would have seen.

    A sample that cannot be read is replaced by the next one in the epoch's order, and counted when its batch is handed out.

    Args:
        members: the datasets, interleaved in proportion to their weights (see :class:`~dadkit.data.sampling.Mixture`).
        contexts: where student and teacher look in each image.
        batch_size: samples per batch.
        seed: the run's seed.
        name: distinguishes streams of one run, for instance ``"main/labelled"``.
        flip: probability of mirroring a sample.
        labelled: True: depth is required; False: depth, if there is any, is dropped.
        patches: False leaves the patches out, where nobody looks at them.
        space: convert depth to this space, so that datasets of different spaces can be mixed; None leaves it.
        perturb: makes the student's view from the clean one; must survive pickling.
        cutmix: pastes rectangles between the student's views of a batch; None does not.
        share: (index, count): hand out only the ``index``-th of ``count`` parts of each batch. The parts of all indices make up
            the batch that a stream without a share gives; one of them may be empty.
        workers: processes that read; 0 reads in this one.
        prefetch: batches that each worker keeps ready.
        max_error_rate: largest share of unreadable samples among those read.
        min_reads: samples read before that share is judged; a ``max_error_rate`` of 0 is judged at once.
        pin_memory: put batches into page-locked memory, for asynchronous copies to a GPU.
        start_method: ``"fork"``, ``"spawn"``, ``"forkserver"``; None is Python's default here.

    Attributes:
        position: samples handed out so far; the next batch begins here.
        errors: name -> reason of every distinct sample that could not be read.
        reads, failed_reads: samples tried, and those of them that failed; one file fails once an epoch.

    Raises:
        DataError: there is no dataset, or one is empty.
    """

    def __init__(
        self,
        members: Sequence[Member],
        contexts: ContextSampler,
        *,
        batch_size: int,
        seed: int,
        name: str,
        flip: float = 0.5,
        labelled: bool = False,
        patches: bool = True,
        space: Space | None = None,
        perturb: Perturb | None = None,
        cutmix: CutMix | None = None,
        share: tuple[int, int] = (0, 1),
        workers: int = 0,
        prefetch: int = 2,
        max_error_rate: float = 0.2,
        min_reads: int = 100,
        pin_memory: bool = False,
        start_method: str | None = None,
    ) -> None:
        if not members:
            raise DataError(f"stream '{name}' has no dataset")
        for member in members:
            if not len(member.dataset):
                raise DataError(f"dataset '{member.name}' is empty")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self._reader = BatchReader(
            members,
            contexts,
            batch_size=batch_size,
            seed=seed,
            name=name,
            flip=flip,
            labelled=labelled,
            patches=patches,
            space=space,
            perturb=perturb,
            cutmix=cutmix,
            share=share,
        )
        self.name, self.batch_size = name, batch_size
        self.samples_per_epoch = sum(len(member.dataset) for member in members)
        """Number of samples in all datasets together: what ``epochs:`` is counted in."""
        self.workers = workers
        self._prefetch, self._start_method = prefetch, start_method
        self._pin_memory = pin_memory
        self._max_error_rate, self._min_reads = max_error_rate, min_reads
        self.position = 0
        self.reads = self.failed_reads = 0
        self._errors: dict[str, str] = {}
        self._readings: Iterator[Reading] | None = None

    def __iter__(self) -> Self:
        return self

    @property
    def share(self) -> range:
        """Which samples of each batch are handed out here: all ``batch_size`` of them unless others have a share."""
        return self._reader.share

    def __next__(self) -> Batch:
        """The next batch.

        Raises:
            DataError: too many samples could not be read, or the datasets do not give what the stream needs.
            StopIteration: the stream's share of a batch is empty.
        """
        if not self.share:
            raise StopIteration
        if self._readings is None:
            self._readings = self._start()
        try:
            reading = next(self._readings)
        except RuntimeError as error:
            if "DataLoader worker (pid" not in str(error):
                raise
            raise DataError(
                f"a loader process of stream '{self.name}' died: {error}. It may have run out of memory, or of shared memory "
                "(/dev/shm); try fewer data.workers, or 0"
            ) from error
        self._account(reading)
        assert reading.batch is not None
        self.position += self.batch_size
        return reading.batch

    def seek(self, position: int) -> None:
        """Go on at ``position``. Cheap when nothing was read yet; otherwise the workers start anew."""
        if position != self.position:
            self.close()
            self.position = position

    @property
    def errors(self) -> Mapping[str, str]:
        """Name -> reason of every distinct sample that could not be read."""
        return self._errors

    def state(self) -> dict[str, Any]:
        """Plain data: the position, which alone decides what comes next, and the account of errors, for the record."""
        return {"position": self.position, "reads": self.reads, "failed_reads": self.failed_reads, "errors": dict(self._errors)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`."""
        self.seek(state["position"])
        self.reads, self.failed_reads, self._errors = state["reads"], state["failed_reads"], dict(state["errors"])

    def close(self) -> None:
        """End the workers. The next batch starts them again."""
        self._readings = None  # torch ends the workers when their iterator goes

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _start(self) -> Iterator[Reading]:
        if self.workers == 0:
            return map(self._reader.__getitem__, itertools.count(self.position, self.batch_size))
        loader: DataLoader[Reading] = DataLoader(
            self._reader,  # type: ignore[arg-type]
            batch_size=None,
            sampler=_Positions(self.position, self.batch_size),
            num_workers=self.workers,
            prefetch_factor=self._prefetch,
            worker_init_fn=_begin_worker,
            pin_memory=self._pin_memory,
            multiprocessing_context=self._start_method,
            generator=torch.Generator(),  # or it would draw from the global one, which belongs to the training
        )
        return iter(loader)

    def _account(self, reading: Reading) -> None:
        self.reads += reading.reads
        self.failed_reads += len(reading.failures)
        self._errors.update(reading.failures)
        judged = self.reads >= self._min_reads or self._max_error_rate == 0
        if judged and self.failed_reads > self._max_error_rate * self.reads:
            raise DataError(
                f"{self.failed_reads} of the {self.reads} samples that stream '{self.name}' has tried could not be read, "
                f"more than max_error_rate = {self._max_error_rate:g} allows. {_summary(self._errors)}"
            )
        if reading.error is not None:
            raise reading.error


class _Positions:
    """Where the batches begin, without end. A class, since the DataLoader asks for a fresh iterator."""

    def __init__(self, start: int, step: int) -> None:
        self._start, self._step = start, step

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self._start, self._step)


def _begin_worker(_: int) -> None:
    # Ctrl-C, and the SIGTERM of torchrun and of cluster managers, reach the whole process group. The training process decides
    # what they mean and still needs its data to finish the iteration; it ends its workers itself, by SIGTERM if they are stuck.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _summary(errors: Mapping[str, str], limit: int = 5) -> str:
    lines = [f"{name}: {reason}" for name, reason in itertools.islice(errors.items(), limit)]
    return f"{len(errors)} different ones, the first:\n  " + "\n  ".join(lines)
