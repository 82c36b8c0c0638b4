"""The folder of a run: where its files are, the lock that keeps a second process out, and a stage's result.

A result is weights with metadata that say what they are and what went into them.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from dadkit.config.schema import RunConfig, StageConfig
from dadkit.errors import DadkitError
from dadkit.files import atomic_path
from dadkit.loading import ModelCard, read_card, rebuild_options
from dadkit.training.stage import Stage

__all__ = [
    "RunFolder",
    "RunLockedError",
    "StageFolder",
    "lock",
    "make_card",
    "write_result",
]


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
        """Returns the folder of a stage."""
        return StageFolder(self.path / "stages" / name)


_held: set[Path] = set()  # by this process: the operating system's lock does not exclude its owner


class RunLockedError(DadkitError):
    """Another process is training into the run's folder."""


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold the run's folder while the block runs; it is made if it is not there.

    The operating system lets go of it when the process dies, however it dies. It is a record lock, which belongs to the
    process: loader processes that outlive a killed one by some seconds do not keep it.

    Raises:
        RunLockedError: somebody else holds it.
        DadkitError: the folder cannot be made or written.
    """
    path = folder.absolute() / ".lock"
    if path in _held:  # and do not touch the file: closing it would give up the lock
        raise RunLockedError(_message(folder, f"process {os.getpid()}, this one"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+")
    except OSError as error:
        raise DadkitError(f"cannot write into {folder}: {error.strerror}; choose another folder with output=…") from error
    with handle:
        if not _try_lock(handle):
            handle.seek(0)
            raise RunLockedError(_message(folder, handle.read().strip() or "another process"))
        handle.truncate(0)
        handle.write(f"process {os.getpid()} on {socket.gethostname()}")
        handle.flush()
        _held.add(path)
        try:
            yield
        finally:
            _held.discard(path)


def _message(folder: Path, owner: str) -> str:
    return f"{folder} is being trained into by {owner}; wait for it, stop it, or give this run another name (name=…)"


def _try_lock(handle: IO[str]) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def make_card(
    run: RunConfig, stage: Stage, results: Mapping[str, Path], versions: Mapping[str, str], *, step: int, digest: str
) -> ModelCard:
    """Returns the metadata of a stage's result.

    Args:
        run: the run.
        stage: the stage.
        results: earlier stages' results; a student taken from one keeps its component and options.
        versions: distribution -> version of everything that took part.
        step: the iteration that the weights are from.
        digest: hash of what the weights depend on.
    """
    component, options = _student(stage.config, results)
    return ModelCard(
        component=component,
        options=options,
        space=str(stage.student.spec.space),
        licenses=list(stage.licenses),
        versions=dict(versions),
        run=run.name,
        stage=stage.name,
        step=step,
        config_hash=digest,
        unsound=list(stage.unsound),
    )


def write_result(path: Path, weights: Mapping[str, Tensor], card: ModelCard) -> None:
    """Write a ``model.safetensors`` that ``dadkit.load_model`` reads, whole or not at all."""
    with atomic_path(path) as temporary:
        try:
            save_file(dict(weights), temporary, metadata=card.to_metadata())
        except SafetensorError as error:  # its own name for a full disk
            raise DadkitError(f"cannot write {path}: {error}; free some space and run the same command again") from error


def _student(config: StageConfig, results: Mapping[str, Path]) -> tuple[str, dict[str, object]]:
    assert config.student is not None
    if config.student.stage is not None:
        card = read_card(results[config.student.stage])
        return card.component, dict(card.options)
    assert config.student.name is not None
    return config.student.name, rebuild_options(config.student.options)
