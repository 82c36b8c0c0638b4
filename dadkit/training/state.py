"""What a checkpoint holds besides the student's weights, collected and put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dadkit.plugin import get_registry, warn_of_other_versions
from dadkit.training.checkpoint import Checkpoint, Checkpoints
from dadkit.training.data import merged, without_account
from dadkit.training.distributed import Ranks
from dadkit.training.scale import SourceScales

if TYPE_CHECKING:
    from dadkit.training.loop import Trainer

__all__ = ["collect", "load_newest", "restore"]


def collect(trainer: Trainer) -> dict[str, Any]:
    """Tensors and plain data only, so that it loads with ``weights_only=True``.

    There is no state of random generators and no scheduler among it: both follow from the step. All ranks call this, for the
    account of what could not be read; the rest is the same on each.
    """
    return {
        "optimizer": trainer.optimizer.state_dict(),
        "ema": None if trainer.ema is None else trainer.ema.state_dict(),
        "step": trainer.step.state_dict(),
        "scales": trainer.step.scales.state_dict(),
        "hooks": [hook.state_dict() for hook in trainer.hooks],
        "nonfinite": trainer.guard.count,
        "data": merged(trainer.ranks.gather(trainer.stage.data.state())),
        "seconds": trainer.seconds,
        "versions": get_registry().versions_in_use(),
    }


def restore(trainer: Trainer, saved: Checkpoint) -> None:
    """Put a checkpoint back, weights included. Warns where plugins of other versions are installed now.

    Raises:
        DataChangedError: the datasets changed.
    """
    found = get_registry().versions_in_use()
    warn_of_other_versions(saved.state.get("versions", {}), found, what=f"the checkpoint of step {saved.step}")
    trainer.student.load_state_dict(saved.model)
    trainer.optimizer.load_state_dict(saved.state["optimizer"])
    if trainer.ema is not None:
        trainer.ema.load_state_dict(saved.state["ema"])
    learned = saved.state.get("step")
    if learned is None:  # written before terms were modules: the same tensors in the same order, under other names
        learned = dict(zip(trainer.step.state_dict(), saved.state["adapter"].values(), strict=True))
    trainer.step.load_state_dict(learned)
    trainer.step.scales = SourceScales.from_state_dict(saved.state["scales"])
    for hook, state in zip(trainer.hooks, saved.state.get("hooks", ()), strict=False):
        hook.load_state_dict(state)
    trainer.guard.count = saved.state["nonfinite"]
    data = saved.state["data"]
    trainer.stage.data.restore(data if trainer.ranks.main else without_account(data))
    trainer.seconds_before = saved.state["seconds"]


def load_newest(checkpoints: Checkpoints, ranks: Ranks) -> tuple[Checkpoint | None, list[str]]:
    """The newest readable checkpoint, the same on every rank, or None; and what to tell the user about damaged ones."""
    saved, damaged = checkpoints.load_newest() if ranks.main else (None, [])
    step = ranks.from_main(lambda: None if saved is None else saved.step)
    return (saved if ranks.main or step is None else checkpoints.load(step)), damaged
