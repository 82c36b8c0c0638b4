"""The hooks that write down what training logs: the run's own files, TensorBoard, Weights & Biases, MLflow, trackio.

A run always has :class:`RunFiles`. The others are components of the kind ``hook``, which ``log: [tensorboard, wandb]`` names.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any

from dadkit.errors import DadkitError
from dadkit.training.hooks import Hook

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from dadkit.training.loop import Trainer
    from dadkit.training.metrics import MetricsFile
    from dadkit.training.stage import Outcome

__all__ = ["RunFiles", "TensorBoard", "Tracker"]


class RunFiles(Hook):
    """Writes ``metrics.jsonl`` and the sample grids of the stage, which the report reads."""

    _metrics: MetricsFile

    def on_stage_start(self, trainer: Trainer) -> None:
        """Cut ``metrics.jsonl`` back to the checkpoint."""
        from dadkit.training.metrics import MetricsFile

        if trainer.ranks.main:
            self._metrics = MetricsFile(trainer.folder.metrics, trainer.stage.name, start=trainer.start)

    def on_log(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        """Append a line."""
        self._metrics.write(step, values)

    def on_picture(self, trainer: Trainer, step: int, picture: NDArray[np.uint8]) -> None:
        """Write a JPEG file."""
        from dadkit.training.samples import write_picture

        write_picture(trainer.files.samples / f"step-{step:08d}.jpg", picture)


class TensorBoard(Hook):
    """Writes event files below ``tensorboard/`` in the run's folder, one folder a stage: curves and sample grids."""

    _writer: Any = None

    def on_stage_start(self, trainer: Trainer) -> None:
        """Open the event file. What a killed process wrote beyond the checkpoint is hidden."""
        if trainer.ranks.main:
            from torch.utils.tensorboard import SummaryWriter  # takes a second to import

            folder = trainer.folder.tensorboard / trainer.stage.name
            self._writer = SummaryWriter(str(folder), purge_step=trainer.start + 1 if trainer.start else None)

    def on_log(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        """Add one point to each curve."""
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def on_picture(self, trainer: Trainer, step: int, picture: NDArray[np.uint8]) -> None:
        """Add a sample grid."""
        self._writer.add_image("samples", picture, step, dataformats="HWC")

    def on_stage_end(self, trainer: Trainer, outcome: Outcome | None) -> None:
        """Flush and close."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class Tracker(Hook):
    """Sends every logged line and sample grid to Weights & Biases, MLflow or trackio, one run of theirs for each stage.

    Args:
        name: ``wandb``, ``mlflow`` or ``trackio``, whose package must be installed.
        options: arguments of its ``init`` (``start_run`` of MLflow): a project, a name, a mode. The default of ``name`` is the
            stage's name, and that of ``project``, which trackio needs, is the dadkit run's name.

    Raises:
        DadkitError: the package is not installed.

    Example:
        >>> Tracker("punch-cards")
        Traceback (most recent call last):
        dadkit.errors.DadkitError: unknown tracker 'punch-cards'; there are wandb, mlflow, trackio
    """

    def __init__(self, name: str, **options: Any) -> None:
        if name not in ("wandb", "mlflow", "trackio"):
            raise DadkitError(f"unknown tracker '{name}'; there are wandb, mlflow, trackio")
        try:
            self._module: Any = import_module(name)
        except ModuleNotFoundError as error:
            raise DadkitError(f"the tracker '{name}' needs its package: pip install {name}") from error
        self._is_mlflow, self._options, self._run = name == "mlflow", options, None

    def on_stage_start(self, trainer: Trainer) -> None:
        """Open a run for the stage."""
        if not trainer.ranks.main:
            return
        if self._is_mlflow:
            self._run = self._module.start_run(**{"run_name": trainer.stage.name, **self._options})
        else:
            own = {"project": trainer.folder.path.name, "name": trainer.stage.name}
            self._run = self._module.init(**{**own, **self._options})

    def on_log(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        """Send the numbers."""
        if self._is_mlflow:
            self._module.log_metrics(dict(values), step=step)
        else:
            self._module.log(dict(values), step=step)

    def on_picture(self, trainer: Trainer, step: int, picture: NDArray[np.uint8]) -> None:
        """Send a sample grid."""
        if self._is_mlflow:
            self._module.log_image(picture, key="samples", step=step)
        else:
            self._module.log({"samples": self._module.Image(picture)}, step=step)

    def on_stage_end(self, trainer: Trainer, outcome: Outcome | None) -> None:
        """Close the run."""
        if self._run is not None:
            self._run = None
            self._module.end_run() if self._is_mlflow else self._module.finish()
