"""Training: the step (what is compared with what), the loop of a stage, checkpoints, logs, and whole runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dadkit._lazy import lazy_names

if TYPE_CHECKING:
    from dadkit.training.hooks import Hook, Tracker
    from dadkit.training.run import train

__all__ = ["Hook", "Tracker", "train"]

__getattr__, __dir__ = lazy_names(__name__, {"dadkit.training.hooks": ("Hook", "Tracker"), "dadkit.training.run": ("train",)})
