"""The typical scale of each source of targets, measured once, before the first step.

The scale-free losses leave the student's magnitude open; under noisy targets it drifts without bound. The anchor term and
every term on raw values need a magnitude to hold on to. With s(x) the mean absolute deviation of a map about its median, and
T a source (a teacher, or the true depth):

    c_T   = exp(median of log s(target)) over the first ``warmup_maps`` maps of T
    gamma = 1 for a head that starts from random weights, else exp(median of log s(prediction)) on the same images

and the student is held at s(prediction) ~ gamma * s(target) / c_T. Both numbers are then frozen and kept in the checkpoint. How
a scale is measured is :class:`dadkit.losses.ScaleMeter`'s business, which :class:`dadkit.losses.ScaleAnchorLoss` uses as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from dadkit.errors import DadkitError
from dadkit.losses import ScaleMeter

__all__ = ["LABELS", "ScaleError", "SourceScales", "measured"]

LABELS = "labels"


class ScaleError(DadkitError):
    """A source answers with constant maps only: it has no scale, and nothing to teach."""

    exit_code = 3


@dataclass(frozen=True)
class SourceScales:
    """c per source, and gamma. Empty: no term of this stage needs them, and every factor is 1."""

    sources: Mapping[str, float] = field(default_factory=dict)
    student: float = 1.0

    def factor(self, source: str) -> float:
        """gamma / c of a source."""
        return self.student / self.sources[source] if self.sources else 1.0

    def state_dict(self) -> dict[str, Any]:
        """Plain data for a checkpoint."""
        return {"sources": dict(self.sources), "student": self.student}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> Self:
        """Returns the inverse of :meth:`state_dict`."""
        return cls(dict(state["sources"]), float(state["student"]))


def measured(
    meter: ScaleMeter, source: str, *, doubt: str = "are the right weights loaded, and are the images in [0, 1]?"
) -> float:
    """Returns what a meter has found. Raises ScaleError, which ends with ``doubt``, if every map of ``source`` was constant."""
    if not meter.count:
        raise ScaleError(
            f"all first maps of {source} are constant (or have no valid pixel), so there is nothing to learn from; {doubt}"
        )
    return float(meter.value())
