"""Where the files of a run lie, and the lock that keeps two processes out of one run folder."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dadkit.errors import DadkitError

__all__ = ["RunFolder", "RunLockedError", "StageFolder", "lock"]


class RunLockedError(DadkitError):
    """Another process is training into the run's folder."""


@dataclass(frozen=True)
class StageFolder:
    """The files of one stage."""

    path: Path

    @property
    def model(self) -> Path:
        """The stage's result: weights with metadata, which ``dadkit.load_model`` reads."""
        return self.path / "model.safetensors"

    @property
    def begun(self) -> Path:
        """Written first: the configuration with which the stage is trained."""
        return self.path / "stage.json"

    @property
    def done(self) -> Path:
        """Written last: how the stage ended."""
        return self.path / "done.json"

    @property
    def checkpoints(self) -> Path:
        """A folder per checkpoint."""
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        """Sample grids, one picture per ``sample_every`` iterations."""
        return self.path / "samples"

    @property
    def nonfinite(self) -> Path:
        """JSON lines: iterations that were skipped because loss or gradient was not finite, with the samples' keys."""
        return self.path / "nonfinite.jsonl"


@dataclass(frozen=True)
class RunFolder:
    """The files of one run, below ``OUTPUT/NAME``."""

    path: Path

    @property
    def config(self) -> Path:
        """The resolved configuration; ``dadkit train`` takes it as it is."""
        return self.path / "config.yaml"

    @property
    def metadata(self) -> Path:
        """Versions, components, licences, environment, command, and how each stage ended."""
        return self.path / "run.json"

    @property
    def metrics(self) -> Path:
        """JSON lines: one per logged iteration, of all stages in order."""
        return self.path / "metrics.jsonl"

    @property
    def tensorboard(self) -> Path:
        """TensorBoard's event files, a folder per stage."""
        return self.path / "tensorboard"

    def stage(self, name: str) -> StageFolder:
        """The folder of a stage."""
        return StageFolder(self.path / "stages" / name)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run's folder while the block runs. The operating system lets go of it when the process dies, however it dies.

    Raises:
        RunLockedError: another process holds it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / ".lock"
    with path.open("a+") as handle:
        if not _try_lock(handle.fileno()):
            handle.seek(0)
            raise RunLockedError(
                f"{folder} is being trained into by {handle.read().strip() or 'another process'}; "
                "wait for it, stop it, or give this run another name (name=…)"
            )
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        yield


def _try_lock(descriptor: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
