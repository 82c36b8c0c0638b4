"""The data of one iteration: one batch of each kind, the same at any step every time, cut into micro-batches."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from dadkit.config.schema import StageConfig
from dadkit.data import Stream, Streams
from dadkit.data.perturbations import part_bounds
from dadkit.data.sample import Batch
from dadkit.errors import DadkitError
from dadkit.training.soundness import StageError

__all__ = [
    "Iteration",
    "StageData",
    "explained_batch_norm",
    "merged",
    "micro_batches",
    "without_account",
]


@dataclass(frozen=True, eq=False)
class Iteration:
    """The images of one optimiser step: unlabelled ones, labelled ones, or both; or this process's share of them.

    Attributes:
        unlabelled, labelled: the images that are here.
        total: numbers of unlabelled and labelled images in the whole step, on all processes; None = those that are here.
        first: how many unlabelled images of the step come before these.
    """

    unlabelled: Batch | None
    labelled: Batch | None
    total: tuple[int, int] | None = None
    first: int = 0

    @property
    def counts(self) -> tuple[int, int]:
        """Numbers of unlabelled and labelled images in the whole step."""
        return self.here if self.total is None else self.total

    @property
    def here(self) -> tuple[int, int]:
        """Numbers of unlabelled and labelled images in this process."""
        return len(self.unlabelled or ()), len(self.labelled or ())

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of all samples."""
        return tuple(key for batch in (self.unlabelled, self.labelled) if batch is not None for key in batch.keys)

    def to(self, device: torch.device) -> Iteration:
        """Returns the same on ``device``."""
        unlabelled, labelled = (None if batch is None else batch.to(device) for batch in (self.unlabelled, self.labelled))
        return replace(self, unlabelled=unlabelled, labelled=labelled)


def micro_batches(data: Iteration, count: int) -> Iterator[Iteration]:
    """``count`` parts of nearly equal size (a kind with fewer images than parts is missing from some of them).

    Every term is a mean over images, and the step weighs each part by its share of the iteration's images; so the parts'
    gradients add up to those of the whole, unless a model mixes the images of a batch (batch normalisation). Images that were
    mixed by CutMix stay together, which may leave a part empty.
    """
    first = data.first
    for index in range(count):
        unlabelled, labelled = _part(data.unlabelled, index, count), _part(data.labelled, index, count)
        part = Iteration(unlabelled, labelled, data.counts, first)
        first += part.here[0]
        if any(part.here):
            yield part


def _part(batch: Batch | None, index: int, count: int) -> Batch | None:
    if batch is None:
        return None
    if batch.pasted is None:
        start, stop = len(batch) * index // count, len(batch) * (index + 1) // count
    else:
        start, stop = part_bounds(len(batch), count)[index : index + 2]
    if start == stop:
        return None
    cut: dict[str, Any] = {name: tensor[start:stop] for name, tensor in batch.tensors()}
    if batch.student_images is batch.images:
        cut["student_images"] = cut["images"]
    return replace(batch, keys=batch.keys[start:stop], **cut)


_TORCH = "Expected more than 1 value per channel when training"


@contextmanager
def explained_batch_norm(part: Iteration, config: StageConfig, processes: int = 1) -> Iterator[None]:
    """Around the student's forward pass of a micro-batch.

    Args:
        part: the micro-batch.
        config: the stage's.
        processes: that share each batch.

    Raises:
        StageError: a channel has one value in the whole micro-batch: one image, whose feature map is 1 x 1 by then.
    """
    try:
        yield
    except ValueError as error:
        if _TORCH not in str(error):
            raise
        among = f" among {processes} processes" if processes > 1 else ""
        raise StageError(
            f"stage '{config.name}': the student has batch normalisation of a feature map that is 1 x 1 at this view size, and "
            f"a micro-batch of {sum(part.here)} image leaves it one value per channel, which has no variance. Let every "
            f"micro-batch have two images: raise batch_size (now {config.batch_size}{among}), lower optim.accumulate (now "
            f"{config.optim.accumulate}) or the number of processes; or take a larger contexts.options.view_size"
        ) from error


class DataChangedError(DadkitError):
    """The datasets are not those that the run began with."""

    exit_code = 3


class StageData:
    """Iterations from the streams of a stage.

    Args:
        streams: the streams, or this process's share of them.
    """

    def __init__(self, streams: Streams) -> None:
        self._streams = streams

    @property
    def steps_per_epoch(self) -> float:
        """Iterations until the larger of the two kinds has been gone through once."""
        return self._streams.steps_per_epoch

    @property
    def unreadable(self) -> dict[str, str]:
        """Name -> reason of every distinct sample that could not be read so far."""
        return {name: reason for stream in self._streams for name, reason in stream.errors.items()}

    def iterations(self, start: int) -> Iterator[Iteration]:
        """Iterations ``start``, ``start + 1``, …, without end."""
        streams = self._streams
        for stream in streams:
            stream.seek(start * stream.batch_size)
        counts = (_size(streams.unlabelled), _size(streams.labelled))
        first = 0 if streams.unlabelled is None else streams.unlabelled.places.start
        while True:
            yield Iteration(_read(streams.unlabelled), _read(streams.labelled), counts, first)

    def preview(self) -> Iteration:
        """Returns the first iteration, all of it, read in this process and beside the others."""
        return next(StageData(self._streams.anew(workers=0)).iterations(0))

    def whole(self) -> StageData:
        """Returns the same data, all of each iteration, whatever this process's share is."""
        return StageData(self._streams.anew())

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint: positions, and what could not be read."""
        return {stream.name: {**stream.state(), "samples": stream.samples_per_epoch} for stream in self._streams}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`, or from several ones :func:`merged`.

        Raises:
            DataChangedError: a dataset has another length than when the run began, so its order would be another one too.
        """
        for stream in self._streams:
            saved = dict(state[stream.name])
            before = saved.pop("samples")
            if before != stream.samples_per_epoch:
                raise DataChangedError(
                    f"the data of '{stream.name}' changed: {before} samples when the run began, {stream.samples_per_epoch} "
                    "now. Bring them back, or begin anew with --fresh or under another name (name=…)"
                )
            stream.restore(saved)

    def close(self) -> None:
        """End the worker processes."""
        self._streams.close()


def merged(states: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Joins the states of processes that each read a share of the same streams: the accounts of errors are
    added up.
    """
    result: dict[str, Any] = {}
    for name, first in states[0].items():
        streams = [state[name] for state in states]
        result[name] = {
            **first,
            "reads": sum(stream["reads"] for stream in streams),
            "failed_reads": sum(stream["failed_reads"] for stream in streams),
            "errors": {key: reason for stream in streams for key, reason in stream["errors"].items()},
        }
    return result


def without_account(state: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the state with nothing read yet: for all processes but the one that takes over the :func:`merged` account."""
    return {name: {**stream, "reads": 0, "failed_reads": 0, "errors": {}} for name, stream in state.items()}


def _size(stream: Stream | None) -> int:
    return 0 if stream is None else stream.batch_size


def _read(stream: Stream | None) -> Batch | None:
    if stream is None:
        return None
    if not stream.places:  # other processes have the few images of this kind
        stream.seek(stream.position + stream.batch_size)
        return None
    return next(stream)
