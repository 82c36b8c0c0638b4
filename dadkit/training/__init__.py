"""Training: the step (what is compared with what), the loop of a stage, checkpoints, logs, and whole runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dadkit._lazy import lazy_names

if TYPE_CHECKING:
    from dadkit.training.hooks import Hook
    from dadkit.training.loggers import TensorBoard, Tracker
    from dadkit.training.run import train

__all__ = ["Hook", "TensorBoard", "Tracker", "train"]

__getattr__, __dir__ = lazy_names(
    __name__,
    {
        "dadkit.training.hooks": ("Hook",),
        "dadkit.training.loggers": ("TensorBoard", "Tracker"),
        "dadkit.training.run": ("train",),
    },
)
