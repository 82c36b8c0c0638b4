"""The data of one stage as iterations: one batch of each kind per optimiser step, at any step, the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from dadkit.data import Streams
from dadkit.errors import DadkitError
from dadkit.training.micro import Iteration

__all__ = ["StageData"]


class DataChangedError(DadkitError):
    """The datasets are not those that the run began with."""

    exit_code = 3


class StageData:
    """Iterations from the streams of a stage.

    Args:
        open_streams: opens the streams with so many worker processes; 0 reads in this process.
        workers: how many training uses.
    """

    def __init__(self, open_streams: Callable[[int], Streams], *, workers: int) -> None:
        self._open = open_streams
        self._streams = open_streams(workers)

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
        while True:
            unlabelled = None if streams.unlabelled is None else next(streams.unlabelled)
            labelled = None if streams.labelled is None else next(streams.labelled)
            yield Iteration(unlabelled, labelled)

    def preview(self) -> Iteration:
        """The first iteration, read in this process and beside the others."""
        streams = self._open(0)
        return next(StageData(lambda _: streams, workers=0).iterations(0))

    def state(self) -> dict[str, Any]:
        """Plain data for a checkpoint: positions, and what could not be read."""
        return {stream.name: {**stream.state(), "samples": stream.samples_per_epoch} for stream in self._streams}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state`.

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
