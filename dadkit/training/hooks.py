"""The way into training: hooks, called at a stage's start and end, for each loss, before each step and at each log line.

Loggers (:mod:`dadkit.training.loggers`) are hooks too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

    from dadkit.training.batches import Iteration
    from dadkit.training.loop import Trainer
    from dadkit.training.stage import Outcome
    from dadkit.training.step import StepResult

__all__ = ["Hook"]


class Hook:
    """Derive from it, override what you need, and give it to ``dadkit.training.train(run, hooks=[...])``.

    A plugin registers hooks by name (``register_hooks``). A run's file then names them under ``hooks``, or under ``log`` if
    they write down what happens and change nothing.

    Every process calls its hooks. What a hook finds at the trainer: ``stage`` (its ``name``, ``iterations``, ``device``),
    ``config``, ``student``, ``step`` (terms and teachers), ``optimizer``, ``ranks``, ``folder`` and ``files`` (of the run and
    of the stage), ``start`` (iterations done before), ``record``, which logs tensors, and ``iterate(index, data)``, which does
    one optimiser step.
    A hook that changes what is trained keeps its own state in :meth:`state_dict`, so that a resumed run goes on with it.
    """

    def on_stage_start(self, trainer: Trainer) -> None:
        """A stage begins, or goes on from a checkpoint; the models are on their device."""

    def on_loss(self, trainer: Trainer, part: Iteration, result: StepResult) -> Tensor | None:
        """Called when a micro-batch has its loss.

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
        """Numbers are logged after ``step`` iterations, on the first process only.

        They are those of a line of ``metrics.jsonl`` (:mod:`dadkit.training.metrics`), or ``validation/abs_rel`` alone.
        """

    def on_picture(self, trainer: Trainer, step: int, picture: NDArray[np.uint8]) -> None:
        """A sample grid, (H, W, 3), was drawn after ``step`` iterations, on the first process only."""

    def on_stage_end(self, trainer: Trainer, outcome: Outcome | None) -> None:
        """The stage is over; ``outcome`` is None if it was stopped or failed."""

    def state_dict(self) -> dict[str, Any]:
        """Returns what a checkpoint keeps of this hook: tensors and plain data."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a :meth:`state_dict`; called before :meth:`on_stage_start` of a resumed stage."""
