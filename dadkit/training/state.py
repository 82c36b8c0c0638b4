"""What a checkpoint holds besides the student's weights, collected and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dadkit.training.checkpoint import Checkpoint
from dadkit.training.scale import SourceScales

if TYPE_CHECKING:
    from dadkit.training.loop import Trainer

__all__ = ["collect", "restore"]


def collect(trainer: Trainer) -> dict[str, Any]:
    """Tensors and plain data only, so that it loads with ``weights_only=True``.

    There is no state of random generators and no scheduler among it: both follow from the step.
    """
    return {
        "optimizer": trainer.optimizer.state_dict(),
        "ema": None if trainer.ema is None else trainer.ema.state_dict(),
        "adapter": trainer.step.state_dict(),
        "scales": trainer.step.scales.state_dict(),
        "nonfinite": trainer.guard.count,
        "data": trainer.stage.data.state(),
        "seconds": trainer.seconds,
    }


def restore(trainer: Trainer, saved: Checkpoint) -> None:
    """Put a checkpoint back, weights included.

    Raises:
        DataChangedError: the datasets changed.
    """
    trainer.student.load_state_dict(saved.model)
    trainer.optimizer.load_state_dict(saved.state["optimizer"])
    if trainer.ema is not None:
        trainer.ema.load_state_dict(saved.state["ema"])
    trainer.step.load_state_dict(saved.state["adapter"])
    trainer.step.scales = SourceScales.from_state_dict(saved.state["scales"])
    trainer.guard.count = saved.state["nonfinite"]
    trainer.stage.data.restore(saved.state["data"])
    trainer.seconds_before = saved.state["seconds"]
