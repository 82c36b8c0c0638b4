"""Everything a stage writes down, behind one object: metrics.jsonl, TensorBoard, the console, pictures."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from dadkit.training.folder import RunFolder
from dadkit.training.log.board import Board
from dadkit.training.log.metrics import MetricsFile
from dadkit.training.log.progress import StageProgress
from dadkit.training.log.samples import write_picture

__all__ = ["Silent", "StageLogger", "open_log"]


class StageLogger:
    """The log of one stage, from iteration ``start`` on; a context manager."""

    def __init__(self, folder: RunFolder, stage: str, console: Console, *, iterations: int, start: int) -> None:
        self._samples = folder.stage(stage).samples
        self._metrics = MetricsFile(folder.metrics, stage, start=start)
        self._board = Board(folder.tensorboard / stage, start=start)
        self.progress = StageProgress(console, stage, iterations=iterations, start=start)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        self._stack.callback(self._board.close)
        self._stack.enter_context(self.progress)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line of numbers (names as in :mod:`dadkit.training.log.metrics`) everywhere."""
        self._metrics.write(step, values)
        self._board.scalars(step, values)
        terms = {name.removeprefix("loss/"): value for name, value in values.items() if name.startswith("loss/")}
        self.progress.log(step, terms, rate=values["images_per_s"], wait=values["data_wait"])
        if values.get("student/constant", 0) > 0:
            self.warn(
                f"iteration {step}: the student's map is constant for {values['student/constant']:.0f} images; constant maps "
                "get no gradient from normalised losses. If this stays, lower optim.lr"
            )

    def validation(self, step: int, abs_rel: float) -> None:
        """Write the result of an evaluation during training."""
        self._metrics.write(step, {"validation/abs_rel": abs_rel})
        self._board.scalars(step, {"validation/abs_rel": abs_rel})
        self.say(f"iteration {step}: validation AbsRel {abs_rel:.4f}")

    def advance(self, step: int) -> None:
        """An iteration is done."""
        self.progress.advance(step)

    def say(self, message: str) -> None:
        """A line on the console."""
        self.progress.say(message)

    def warn(self, message: str) -> None:
        """A line on the console that the user should read."""
        self.progress.warn(message)

    def picture(self, step: int, picture: NDArray[np.uint8]) -> None:
        """Write a sample grid."""
        write_picture(self._samples / f"step-{step:08d}.jpg", picture)
        self._board.picture(step, "samples", picture)


class Silent:
    """A :class:`StageLogger` that writes nothing: that of every rank but the first."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def values(self, step: int, values: Mapping[str, float]) -> None:
        """Nothing."""

    def validation(self, step: int, abs_rel: float) -> None:
        """Nothing."""

    def advance(self, step: int) -> None:
        """Nothing."""

    def say(self, message: str) -> None:
        """Nothing."""

    def warn(self, message: str) -> None:
        """Nothing."""

    def picture(self, step: int, picture: NDArray[np.uint8]) -> None:
        """Nothing."""


def open_log(
    folder: RunFolder, stage: str, console: Console, *, iterations: int, start: int, writes: bool
) -> StageLogger | Silent:
    """The log of a stage, or one that writes nothing."""
    return StageLogger(folder, stage, console, iterations=iterations, start=start) if writes else Silent()
