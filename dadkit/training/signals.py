"""Ctrl-C and SIGTERM: finish the step, save, leave. A second Ctrl-C leaves at once."""

from __future__ import annotations

import signal
import threading
from types import FrameType, TracebackType
from typing import Self

from dadkit.errors import DadkitError

__all__ = ["StopSignal", "StoppedError"]


class StoppedError(DadkitError):
    """The run was asked to stop; its state is saved and the same command goes on from there."""

    exit_code = 130


class StopSignal:
    """While active, SIGINT and SIGTERM are remembered instead of obeyed.

    Outside the main thread no handler can be installed; the block then behaves as if it were not there.

    Attributes:
        name: ``"SIGINT"`` or ``"SIGTERM"`` once one has come, else None.
    """

    def __init__(self) -> None:
        self.name: str | None = None
        self._previous: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGINT, signal.SIGTERM):
                self._previous[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._previous.clear()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        if self.name is not None and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.name = signal.Signals(number).name
