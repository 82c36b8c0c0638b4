"""The typical scale of each source of targets, measured once, before the first step.

The scale-free losses leave the student's magnitude open; under noisy targets it drifts without bound. The anchor term and
every term on raw values need a magnitude to hold on to. With s(x) the mean absolute deviation of a map about its median, and
T a source (a teacher, or the true depth):

    c_T   = exp(median of log s(target)) over the first ``warmup_maps`` maps of T
    gamma = 1 for a head that starts from random weights, else exp(median of log s(prediction)) on the same images

and the student is held at s(prediction) ~ gamma * s(target) / c_T. Both numbers are then frozen and kept in the checkpoint.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import torch
from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.losses import median_mad

__all__ = ["LABELS", "ScaleError", "ScaleMeter", "SourceScales", "is_constant"]

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
        """The inverse of :meth:`state_dict`."""
        return cls(dict(state["sources"]), float(state["student"]))


class ScaleMeter:
    """Collects log s(x) of the maps of one source and answers with exp of their median. Constant maps are skipped."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._logs: list[float] = []
        self._seen = 0

    def add(self, maps: Tensor, mask: Tensor | None = None) -> None:
        """(B, 1, H, W) maps, and the pixels that count."""
        _, mad = median_mad(maps, mask)
        constant = is_constant(maps, mad, mask)
        self._logs += mad[~constant].double().log().tolist()
        self._seen += len(maps)

    def value(self) -> float:
        """exp(median of log s), the lower median for even counts. Raises ScaleError if every map was constant."""
        if not self._logs:
            raise ScaleError(
                f"all of the first {self._seen} maps of {self.source} are constant (or have no valid pixel), so there is "
                "nothing to learn from; are the right weights loaded, and are the images in [0, 1]?"
            )
        return math.exp(sorted(self._logs)[(len(self._logs) - 1) // 2])


def is_constant(maps: Tensor, mad: Tensor, mask: Tensor | None = None) -> Tensor:
    """(B,) bool: mean absolute deviation at most 8 eps of the largest magnitude, the losses' rule for a constant map.

    A map without a valid pixel counts as constant.
    """
    magnitude = maps.detach().abs()
    if mask is not None:
        magnitude = magnitude.masked_fill(~mask, 0.0)
    return ~(mad > 8 * torch.finfo(maps.dtype).eps * magnitude.flatten(1).amax(1))
