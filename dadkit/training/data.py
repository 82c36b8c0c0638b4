"""The data of one stage as iterations: one batch of each kind per optimiser step, at any step, the same every time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dadkit.data import Stream, Streams
from dadkit.data.sample import Batch
from dadkit.errors import DadkitError
from dadkit.training.micro import Iteration

__all__ = ["StageData", "merged", "without_account"]


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
        """The first iteration, all of it, read in this process and beside the others."""
        return next(StageData(self._streams.anew(workers=0)).iterations(0))

    def whole(self) -> StageData:
        """The same data, all of each iteration, whatever this process's share is."""
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
    """The states of processes that each read a share of the same streams as one: the accounts of errors are added up."""
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
    """The state with nothing read yet: for all processes but the one that takes over the :func:`merged` account."""
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
