"""Where the files of a run lie."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["RunFolder", "StageFolder"]


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
