"""The way into training: hooks, called at a stage's start and end, for each loss, before each step and at each log line."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from dadkit.errors import DadkitError

if TYPE_CHECKING:
    from dadkit.training.loop import Trainer
    from dadkit.training.micro import Iteration
    from dadkit.training.stage import Outcome
    from dadkit.training.step import StepResult

__all__ = ["Hook", "Tracker"]


class Hook:
    """Derive from it, override what you need, and give it to ``dadkit.training.train(run, hooks=[...])``.

    Every process calls its hooks. What a hook finds at the trainer: ``stage`` (its ``name``, ``iterations``, ``device``),
    ``config``, ``student``, ``step`` (terms and teachers), ``optimizer``, ``ranks``, and ``record``, which logs tensors.
    A hook that changes what is trained keeps its own state in :meth:`state_dict`, so that a resumed run goes on with it.
    """

    def on_stage_start(self, trainer: Trainer) -> None:
        """A stage begins, or goes on from a checkpoint; the models are on their device."""

    def on_loss(self, trainer: Trainer, part: Iteration, result: StepResult) -> Tensor | None:
        """A micro-batch has its loss.

        Args:
            trainer: the stage's.
            part: the images, on the stage's device.
            result: the total, with gradient, and the terms.

        Returns:
            A scalar that is added to the total, a second forward pass's loss for instance, or None. It is weighed by this
            micro-batch's share of the iteration by the hook itself.
        """
        return None

    def on_step(self, trainer: Trainer, index: int) -> None:
        """The gradients of iteration ``index`` are complete and clipped, and the weights are about to move.

        A schedule changes ``lr`` of the optimizer's groups here, for this iteration.
        """

    def on_log(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        """A line of numbers is logged after ``step`` iterations, on the first process only."""

    def on_stage_end(self, trainer: Trainer, outcome: Outcome | None) -> None:
        """The stage is over; ``outcome`` is None if it was stopped or failed."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint keeps of this hook: tensors and plain data."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; called before :meth:`on_stage_start` of a resumed stage."""


class Tracker(Hook):
    """Sends every logged line to Weights & Biases, MLflow or trackio, whichever package is installed.

    Args:
        name: which of them.
        options: arguments of its ``init`` (``start_run`` of MLflow): a project, a name, a mode.

    Raises:
        DadkitError: the package is not installed.
    """

    def __init__(self, name: Literal["wandb", "mlflow", "trackio"], **options: Any) -> None:
        try:
            self._module: Any = import_module(name)
        except ModuleNotFoundError as error:
            raise DadkitError(f"the tracker '{name}' needs its package: pip install {name}") from error
        self._is_mlflow, self._options, self._run = name == "mlflow", options, None

    def on_stage_start(self, trainer: Trainer) -> None:
        """Open a run for the stage."""
        if trainer.ranks.main:
            options = {"run_name" if self._is_mlflow else "name": trainer.stage.name, **self._options}
            self._run = self._module.start_run(**options) if self._is_mlflow else self._module.init(**options)

    def on_log(self, trainer: Trainer, step: int, values: Mapping[str, float]) -> None:
        """Send the numbers."""
        if self._is_mlflow:
            self._module.log_metrics(dict(values), step=step)
        else:
            self._module.log(dict(values), step=step)

    def on_stage_end(self, trainer: Trainer, outcome: Outcome | None) -> None:
        """Close the run."""
        if self._run is not None:
            self._run = None
            self._module.end_run() if self._is_mlflow else self._module.finish()
