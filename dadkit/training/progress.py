"""The console: a progress bar on a terminal, plain lines everywhere else."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn

__all__ = ["StageProgress", "duration"]

SHOWN_TERMS = 7
BAR = 16


class StageProgress:
    """Progress of one stage: losses, images per second, share of the time spent waiting for data, time to go.

    Args:
        console: where to write; only if it is a terminal a bar is drawn, otherwise a line per log interval.
        stage: the stage's name.
        iterations: how many there are.
        start: how many were done before.
    """

    def __init__(self, console: Console, stage: str, *, iterations: int, start: int) -> None:
        self.console = console
        self.stage = stage
        self.iterations = iterations
        self._taken = len(stage) + BAR + 2 * len(str(iterations)) + 5  # columns left of the text, and the gaps between them
        self._start, self._begun = start, time.monotonic()
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=BAR),
            MofNCompleteColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._task: TaskID = self._bar.add_task(stage, total=iterations, completed=start, text="")

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._bar.stop()

    def advance(self, step: int) -> None:
        """Move the bar; cheap enough for every iteration."""
        self._bar.update(self._task, completed=step)

    def log(self, step: int, terms: Mapping[str, float], *, rate: float, wait: float) -> None:
        """Show a logged iteration.

        Args:
            step: iterations done.
            terms: the total and its terms, unweighted.
            rate: images per second.
            wait: share of the time in which training waited for data, in [0, 1].
        """
        losses = "  ".join(f"{name} {value:.4g}" for name, value in list(terms.items())[:SHOWN_TERMS])
        speed = f"{rate:.1f} images/s  data wait {wait:.0%}  {duration(self._remaining(step))} left"
        if self.console.is_terminal:
            # Losses come last, since a narrow terminal cuts the line off.
            text = f"{speed}  {losses}"[: max(0, self.console.width - self._taken)]
            self._bar.update(self._task, completed=step, text=text)
        else:
            self.say(f"{step}/{self.iterations}  {losses}  {speed}")

    def say(self, message: str, *, style: str | None = None) -> None:
        """One line of text, above the bar if there is one."""
        self.console.print(f"{self.stage}: {message}", style=style, highlight=False, markup=False, soft_wrap=True)

    def warn(self, message: str) -> None:
        """One line that the user should read."""
        self.say(f"warning: {message}", style="yellow")

    def _remaining(self, step: int) -> float:
        done = max(1, step - self._start)
        return (time.monotonic() - self._begun) / done * (self.iterations - step)


def duration(seconds: float) -> str:
    """``0:07``, ``12:30``, ``1:02:03``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
