"""Endless, repeatable streams of batches: samples read, batches made of them, worker processes, an account of failures.

The way of one batch, from top to bottom: :class:`Streams` holds the stage's two kinds of data; a :class:`Stream` draws which
sample comes next, reads it, cuts its views, stacks them (:meth:`Stream.read`) and hands the batch out (``next(stream)``).
"""

from __future__ import annotations

import copy
import itertools
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from typing import Any, Self

import torch
from torch.utils.data import DataLoader

from dadkit.data.perturbations import CutMix, mix, part_bounds
from dadkit.data.sample import Batch, Dataset, Sample
from dadkit.data.sampling import Mixture, derive, nth_in_order
from dadkit.data.views import Perturb, View, cut, stack
from dadkit.errors import DadkitError, DataError, SampleError
from dadkit.interfaces import ContextSampler
from dadkit.spaces import Space

__all__ = ["Member", "Reading", "Stream", "Streams", "build_streams"]

_MAX_ATTEMPTS = 100


@dataclass(frozen=True)
class Member:
    """One dataset of a mixture: its name (for messages), itself, its relative weight."""

    name: str
    dataset: Dataset
    weight: float = 1.0


@dataclass(eq=False, repr=False)
class Stream:
    """An endless iterator over batches, at a position that counts the samples drawn so far.

    The batch at a position depends on (seed, name, position) only: not on the number of workers, not on what was read before.
    So a run that goes on at the position where it was killed sees, bit for bit, what it would have seen.

    A sample that cannot be read is replaced by the next one in the epoch's order, and counted when its batch is handed out.
    ``dataclasses.replace(stream, workers=0)`` gives the same stream with another setting, from its start.

    Args:
        members: the datasets, interleaved in proportion to their weights (see :class:`~dadkit.data.sampling.Mixture`).
        contexts: where student and teacher look in each image.
        batch_size: samples per batch.
        seed: the run's seed.
        name: distinguishes streams of one run, for instance ``"main/labelled"``.
        flip: probability of mirroring a sample.
        labelled: True: depth is required; False: depth, if there is any, is dropped.
        patches: False leaves the patches out, where no teacher looks at them.
        space: depth is converted to this space, so that datasets of different spaces can be mixed; None leaves it.
        near_floor: least depth that becomes disparity, as a share of its view's median, see :func:`dadkit.data.views.cut`.
        perturb: makes the student's view from the clean one, of labelled samples only where the label is a teacher's stored
            map; must survive pickling.
        perturb_truth: perturb labelled samples with true depth too.
        stored: samples without true depth keep the maps that a teacher has stored of them.
        cutmix: pastes rectangles between the student's views of a batch; None does not.
        share: (index, count): hands out only the ``index``-th of ``count`` parts of each batch. The parts of all indices make
            up the batch that a stream without a share gives; one of them may be empty. CutMix's pairs are not parted.
        workers: processes that read; 0 reads in this one.
        prefetch: batches that each worker keeps ready.
        max_error_rate: largest share of unreadable samples among those read.
        min_reads: samples read before that share is judged; a ``max_error_rate`` of 0 is judged at once.
        pin_memory: workers' batches are put into page-locked memory, for asynchronous copies to a GPU.
        start_method: ``"fork"``, ``"spawn"``, ``"forkserver"``; None is Python's default here.

    Attributes:
        position: samples handed out so far; the next batch begins here.
        places: which samples of each batch are handed out here: all ``batch_size`` of them without a share.
        samples_per_epoch: number of samples in all datasets together: what ``epochs:`` is counted in.
        reads, failed_reads: samples tried, and those of them that failed; one file fails once an epoch.

    Raises:
        DataError: there is no dataset, or one is empty.
    """

    members: Sequence[Member]
    contexts: ContextSampler
    _: KW_ONLY
    batch_size: int
    seed: int
    name: str
    flip: float = 0.5
    labelled: bool = False
    patches: bool = True
    space: Space | None = None
    near_floor: float = 0.0
    perturb: Perturb | None = None
    perturb_truth: bool = False
    stored: bool = False
    cutmix: CutMix | None = None
    share: tuple[int, int] = (0, 1)
    workers: int = 0
    prefetch: int = 2
    max_error_rate: float = 0.2
    min_reads: int = 100
    pin_memory: bool = False
    start_method: str | None = None

    def __post_init__(self) -> None:
        if not self.members:
            raise DataError(f"stream '{self.name}' has no dataset")
        for member in self.members:
            if not len(member.dataset):
                raise DataError(f"dataset '{member.name}' is empty")
        if self.batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {self.batch_size}")
        self.members = _named_apart(self.members)
        self.samples_per_epoch = sum(len(member.dataset) for member in self.members)
        index, count = self.share
        bounds = [self.batch_size * part // count for part in range(count + 1)]
        if self.cutmix is not None:
            bounds = part_bounds(self.batch_size, count)
        self.places = range(bounds[index], bounds[index + 1])
        self.position = self.reads = self.failed_reads = 0
        self._mixture = Mixture([member.weight for member in self.members])
        self._errors: dict[str, str] = {}
        self._readings: Iterator[Reading] | None = None

    # Batches, one after the other

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Batch:
        """Returns the next batch.

        Raises:
            DataError: too many samples could not be read, or the datasets do not give what the stream needs.
            StopIteration: the stream's share of a batch is empty.
        """
        if not self.places:
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
        """Returns plain data: the position, which alone decides what comes next, and the account of errors, for the record."""
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
            return map(copy.copy(self).read, itertools.count(self.position, self.batch_size))
        loader: DataLoader[Reading] = DataLoader(
            _Readings(copy.copy(self)),  # type: ignore[arg-type]  # a copy: this one must go, and its workers, when it is dropped
            batch_size=None,
            sampler=_Positions(self.position, self.batch_size),
            num_workers=self.workers,
            prefetch_factor=self.prefetch,
            worker_init_fn=_begin_worker,
            pin_memory=self.pin_memory,
            multiprocessing_context=self.start_method,
            generator=torch.Generator(),  # or it would draw from the global one, which belongs to the training
        )
        return iter(loader)

    def _account(self, reading: Reading) -> None:
        self.reads += reading.reads
        self.failed_reads += len(reading.failures)
        self._errors.update(reading.failures)
        judged = self.reads >= self.min_reads or self.max_error_rate == 0
        if judged and self.failed_reads > self.max_error_rate * self.reads:
            raise DataError(
                f"{self.failed_reads} of the {self.reads} samples that stream '{self.name}' has tried could not be read, "
                f"more than max_error_rate = {self.max_error_rate:g} allows. {_summary(self._errors)}"
            )
        if reading.error is not None:
            raise reading.error

    # One batch: pure, so that any process may read it and the answer is the same, bit for bit

    def read(self, position: int) -> Reading:
        """Returns what became of the batch of the ``batch_size`` samples from ``position`` on, or of this stream's share of it.

        Everything about the sample at position p (which one, its contexts, its mirroring, its perturbation) depends on
        (seed, name, p) only.
        """
        reading = Reading()
        try:
            views = [self._view(position + place, reading) for place in self.places]
            reading.batch = self._mixed(stack(views), position + self.places.start)
        except DadkitError as error:
            reading.error = error
        return reading

    def _mixed(self, batch: Batch, position: int) -> Batch:
        if self.cutmix is None:
            return batch
        positions = range(position, position + len(batch))
        seeds = [derive(self.seed, self.name, "cutmix", p) for p in positions]
        return mix(batch, self.cutmix, [torch.Generator().manual_seed(seed) for seed in seeds])

    def _view(self, position: int, reading: Reading) -> View:
        source, number = self._mixture(position)
        sample = self._sample(self.members[source], source, number, reading)
        generator = torch.Generator().manual_seed(derive(self.seed, self.name, "item", position))
        flip = torch.rand((), generator=generator).item() < self.flip
        height, width = sample.image.shape[-2:]
        contexts = self.contexts((height, width), generator)
        if (self.labelled or self.stored) and sample.part is not None:
            contexts = contexts.around(sample.part, (height, width), generator)
        if not self.patches:
            contexts = replace(contexts, patches=contexts.patches[:0])
        pseudo = not self.labelled or sample.scaled  # a teacher's stored map is a pseudo-label, too
        return cut(
            sample,
            contexts,
            flip=flip,
            space=self.space,
            near_floor=self.near_floor,
            perturb=self.perturb if pseudo or self.perturb_truth else None,
            generator=generator,
        )

    def _sample(self, member: Member, source: int, number: int, reading: Reading) -> Sample:
        """Returns the ``number``-th sample of a dataset, or the next readable one in its order."""
        seed = derive(self.seed, self.name, "order", source)
        size = len(member.dataset)
        attempts = min(size, _MAX_ATTEMPTS)
        for skip in range(attempts):
            index = _drawn(member.dataset, number, size, seed, skip)
            reading.reads += 1
            try:
                sample = member.dataset[index]
            except SampleError as error:
                reading.failures.append((self._key(member, index), str(error)))
                continue
            return self._with_labels(sample, member)
        raise DataError(
            f"dataset '{member.name}': {attempts} samples in a row could not be read, the last {reading.failures[-1][0]}: "
            f"{reading.failures[-1][1]}"
        )

    def _with_labels(self, sample: Sample, member: Member) -> Sample:
        if not self.labelled and not self.stored:
            return replace(sample, depth=None, valid=None, space=None)
        if sample.depth is None:
            raise DataError(f"dataset '{member.name}' is listed as labelled data, but {sample.key!r} has no depth")
        return sample

    def _key(self, member: Member, index: int) -> str:
        key = getattr(member.dataset, "key", None)  # optional: a dataset that knows its keys without reading
        inside = key(index) if callable(key) else str(index)
        return inside if len(self.members) == 1 else f"{member.name}/{inside}"


def _drawn(dataset: Dataset, number: int, size: int, seed: int, skip: int) -> int:
    """Returns the sample drawn ``number``-th; a dataset with an ``order`` of its own, as one in large files, decides itself."""
    order = getattr(dataset, "order", None)
    return order(number, seed, skip) if callable(order) else nth_in_order(number, size, seed, skip=skip)


@dataclass(eq=False)
class Reading:
    """What became of one batch.

    Attributes:
        batch: the batch; None if it could not be completed.
        reads: samples that were tried.
        failures: (name, reason) of each that could not be read.
        error: why the run cannot go on, or None. Kept here, since an exception raised in a worker loses its shape on the way.
    """

    batch: Batch | None = None
    reads: int = 0
    failures: list[tuple[str, str]] = field(default_factory=list)
    error: DadkitError | None = None

    def pin_memory(self) -> Reading:
        """Returns the batch in page-locked memory; torch's DataLoader calls it."""
        if self.batch is None:
            return self
        pinned: dict[str, Any] = {name: tensor.pin_memory() for name, tensor in self.batch.tensors()}
        if self.batch.student_images is self.batch.images:
            pinned["student_images"] = pinned["images"]
        return replace(self, batch=replace(self.batch, **pinned))


@dataclass(frozen=True)
class _Readings:
    """A stream as what torch's DataLoader takes: position -> reading."""

    stream: Stream

    def __getitem__(self, position: int) -> Reading:
        return self.stream.read(position)


@dataclass(frozen=True)
class _Positions:
    """Where the batches begin, without end. A class, since the DataLoader asks for a fresh iterator."""

    start: int
    step: int

    def __iter__(self) -> Iterator[int]:
        return itertools.count(self.start, self.step)


def _begin_worker(_: int) -> None:
    # Ctrl-C, and the SIGTERM of torchrun and of cluster managers, reach the whole process group. The training process decides
    # what they mean and still needs its data to finish the iteration; it ends its workers itself, by SIGTERM if they are stuck.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.signal(signal.SIGTERM, signal.SIG_DFL))


def _summary(errors: Mapping[str, str], limit: int = 5) -> str:
    lines = [f"{name}: {reason}" for name, reason in itertools.islice(errors.items(), limit)]
    return f"{len(errors)} different ones, the first:\n  " + "\n  ".join(lines)


def _named_apart(members: Sequence[Member]) -> tuple[Member, ...]:
    """Returns the members, numbered from the second of one name on: the account tells two datasets ``images`` apart."""
    names = [member.name for member in members]
    counts = [names[: index + 1].count(name) for index, name in enumerate(names)]
    return tuple(
        replace(member, name=f"{member.name}#{count}") if count > 1 else member
        for member, count in zip(members, counts, strict=True)
    )


@dataclass(frozen=True, eq=False)
class Streams:
    """The streams of one stage; the training loop draws one batch of each per step."""

    labelled: Stream | None
    unlabelled: Stream | None

    def __iter__(self) -> Iterator[Stream]:
        """The streams that exist, labelled first."""
        return iter([stream for stream in (self.labelled, self.unlabelled) if stream is not None])

    @property
    def steps_per_epoch(self) -> float:
        """Batches until the larger of the two kinds has been gone through once."""
        return max(stream.samples_per_epoch / stream.batch_size for stream in self)

    def anew(self, *, workers: int | None = None, share: tuple[int, int] = (0, 1)) -> Streams:
        """Returns the same streams from their start.

        Args:
            workers: processes of both streams together, but at least one for each; 0 reads in this process, None leaves them.
            share: (index, count): which part of each batch is handed out.
        """
        labelled, unlabelled = self.labelled, self.unlabelled
        if workers is not None:
            sizes = [0 if stream is None else stream.batch_size for stream in (labelled, unlabelled)]
            first, second = _split_workers(workers, sizes[0], sum(sizes))
            labelled = labelled and replace(labelled, workers=first)
            unlabelled = unlabelled and replace(unlabelled, workers=second)
        return Streams(labelled and replace(labelled, share=share), unlabelled and replace(unlabelled, share=share))

    def close(self) -> None:
        """End all workers."""
        for stream in self:
            stream.close()


def build_streams(
    contexts: ContextSampler,
    *,
    stage: str,
    seed: int,
    batch_size: int,
    unlabelled: Sequence[Member] = (),
    labelled: Sequence[Member] = (),
    labelled_fraction: float = 0.5,
    workers: int = 0,
    **options: Any,
) -> Streams:
    """Returns the streams of one stage.

    Args:
        contexts: where student and teacher look; the same sampler for both streams. Labelled batches get no patches, since no
            teacher looks at them.
        stage: the stage's name, part of the streams' names and so of their order.
        seed: the run's seed.
        batch_size: labelled and unlabelled samples per step together.
        unlabelled, labelled: datasets already built, with names and weights.
        labelled_fraction: where both kinds are given, the share of a batch that is labelled, rounded to whole samples.
        workers: processes of both streams together, but at least one for each; 0 reads in this process.
        options: further keywords of :class:`Stream` for both: ``flip``, ``max_error_rate``, …. ``space`` is given to the
            labelled stream, and to the other with ``stored``; ``cutmix`` and ``stored`` to the unlabelled one.

    Raises:
        DataError: there is no data, a dataset is empty, or the fraction leaves no sample for one of the kinds.
    """
    if not unlabelled and not labelled:
        raise DataError(f"stage '{stage}' has no data: give data.root (images), data.unlabelled or data.labelled (datasets)")
    count = _labelled_count(batch_size, labelled_fraction, bool(labelled), bool(unlabelled), stage)
    space, perturb, cutmix = (options.pop(name, None) for name in ("space", "perturb", "cutmix"))
    stored = options.pop("stored", False)
    processes = _split_workers(workers, count, batch_size)
    common = {"contexts": contexts, "seed": seed, **options}
    return Streams(
        labelled=Stream(
            labelled,
            batch_size=count,
            name=f"{stage}/labelled",
            labelled=True,
            patches=False,
            space=space,
            perturb=perturb,
            workers=processes[0],
            **common,
        )
        if count
        else None,
        unlabelled=Stream(
            unlabelled,
            batch_size=batch_size - count,
            name=f"{stage}/unlabelled",
            perturb=perturb,
            cutmix=cutmix,
            stored=stored,
            space=space if stored else None,
            workers=processes[1],
            **common,
        )
        if batch_size - count
        else None,
    )


def _labelled_count(batch_size: int, fraction: float, has_labelled: bool, has_unlabelled: bool, stage: str) -> int:
    if not (has_labelled and has_unlabelled):
        return batch_size if has_labelled else 0
    count = round(batch_size * fraction)
    if not 0 < count < batch_size:
        raise DataError(
            f"stage '{stage}': labelled_fraction = {fraction:g} of a batch of {batch_size} is {count} labelled and "
            f"{batch_size - count} unlabelled samples, but data of both kinds are given; change one of the two "
            "numbers, or leave out one kind"
        )
    return count


def _split_workers(workers: int, labelled: int, batch_size: int) -> tuple[int, int]:
    """Returns the numbers of processes for the two streams, in proportion to what they read."""
    if workers == 0 or labelled in (0, batch_size):
        return workers, workers
    first = min(max(1, round(workers * labelled / batch_size)), max(1, workers - 1))
    return first, max(1, workers - first)
