"""Many pairs of maps for one assertion: drawn and shrunk by hypothesis where it is installed, a fixed series otherwise."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from dadkit.testing.maps import TAME_KINDS, make_pair

__all__ = ["Case", "for_each_case"]

_SCALES = (0.25, 0.5, 3.0, 40.0)
_SHIFTS = (-2.0, 0.0, 0.7, 15.0)
_EXAMPLES = 20


@dataclass(frozen=True, eq=False)
class Case:
    """A pair of maps (B, 1, H, W) in float64, and another scale and shift for one of them."""

    pred: Tensor
    target: Tensor
    mask: Tensor
    scale: float
    shift: float
    text: str


def for_each_case(judge: Callable[[Case], None]) -> None:
    """Call ``judge`` with many cases; with hypothesis installed, what it raises comes from the simplest case that fails."""

    def one(seed: int, kind: str, height: int, width: int, scale: float, shift: float) -> None:
        pred, target, mask = make_pair(seed, height=height, width=width, kind=kind, dtype=torch.float64)
        text = f"{kind} maps of {height} x {width} pixels, seed {seed}"
        judge(Case(pred, target, mask, scale, shift, text))

    try:
        import hypothesis
        from hypothesis import strategies as st
    except ModuleNotFoundError:
        kinds = itertools.cycle(TAME_KINDS)
        for seed in range(_EXAMPLES):
            one(seed, next(kinds), 12 + seed % 5, 12 + seed % 7, _SCALES[seed % 4], _SHIFTS[seed // 4 % 4])
        return
    calm: Any = hypothesis.settings(
        max_examples=_EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    side = st.integers(10, 24)
    draws = (st.integers(0, 999), st.sampled_from(TAME_KINDS), side, side, st.sampled_from(_SCALES), st.sampled_from(_SHIFTS))
    calm(hypothesis.given(*draws)(one))()
