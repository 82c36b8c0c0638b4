"""From a stage's data section to its streams: labelled, unlabelled, or both."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from dadkit.data.loader import Member, Stream
from dadkit.errors import DataError
from dadkit.interfaces import ContextSampler

__all__ = ["Streams", "build_streams"]


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
    """The streams of one stage.

    Args:
        contexts: where student and teacher look; the same sampler for both streams. Labelled batches get no patches, since no
            teacher looks at them.
        stage: the stage's name, part of the streams' names and so of their order.
        seed: the run's seed.
        batch_size: labelled and unlabelled samples per step together.
        unlabelled, labelled: datasets already built, with names and weights.
        labelled_fraction: where both kinds are given, the share of a batch that is labelled, rounded to whole samples.
        workers: processes of both streams together, but at least one for each; 0 reads in this process.
        options: further keywords of :class:`~dadkit.data.loader.Stream` for both: ``flip``, ``max_error_rate``, ….
            ``space`` is given to the labelled stream alone, ``perturb`` and ``cutmix`` to the unlabelled one.

    Raises:
        DataError: there is no data, a dataset is empty, or the fraction leaves no sample for one of the kinds.
    """
    if not unlabelled and not labelled:
        raise DataError(f"stage '{stage}' has no data: give data.root (images), data.unlabelled or data.labelled (datasets)")
    count = _labelled_count(batch_size, labelled_fraction, bool(labelled), bool(unlabelled), stage)
    space, perturb, cutmix = (options.pop(name, None) for name in ("space", "perturb", "cutmix"))
    processes = _split_workers(workers, count, batch_size)

    def stream(kind: str, members: Sequence[Member], size: int, processes: int, **own: Any) -> Stream | None:
        if size == 0:
            return None
        return Stream(
            members, contexts, batch_size=size, seed=seed, name=f"{stage}/{kind}", workers=processes, **own, **options
        )

    return Streams(
        labelled=stream("labelled", labelled, count, processes[0], labelled=True, patches=False, space=space),
        unlabelled=stream("unlabelled", unlabelled, batch_size - count, processes[1], perturb=perturb, cutmix=cutmix),
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
    """Processes for the two streams, in proportion to what they read."""
    if workers == 0 or labelled in (0, batch_size):
        return workers, workers
    first = min(max(1, round(workers * labelled / batch_size)), max(1, workers - 1))
    return first, max(1, workers - first)
