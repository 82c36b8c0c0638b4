"""Depth maps of every kind that the losses document, and pairs of them for one assertion.

Pairs are drawn and shrunk by hypothesis where it is installed, and are a fixed series otherwise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

__all__ = [
    "KINDS",
    "TAME_KINDS",
    "Case",
    "for_each_case",
    "make_map",
    "make_pair",
]


KINDS = ("smooth", "noise", "ties", "quantised", "sky", "constant", "outlier", "offset", "steps")
"""Kinds of depth maps: a scene with noise; pure noise; few small integers; 32 values; exact zeros at the top; one value; one
pixel a million times too large; noise on an offset of 10,000; flat plateaus (segments without deviation)."""

TAME_KINDS = ("smooth", "noise", "quantised", "sky", "steps")
"""Those on which equalities hold to a few digits less than the dtype has."""


def make_map(kind: str, height: int, width: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """Returns a map (H, W) of one of :data:`KINDS`.

    Raises:
        ValueError: no such kind.
    """
    options: dict[str, Any] = {"generator": generator, "dtype": dtype}
    noise = torch.rand(height, width, **options)
    rows = torch.linspace(0, 1, height, dtype=dtype)[:, None]
    ramp = rows + torch.linspace(0, 0.3, width, dtype=dtype)
    match kind:
        case "smooth":
            return ramp + 0.05 * noise
        case "noise":
            return 4 * noise - 1
        case "ties":
            return (4 * noise).floor()
        case "quantised":
            return (ramp * 31).round() / 31
        case "sky":
            return torch.where(rows < 0.4, 0, ramp + 0.05 * noise)
        case "constant":
            return (noise[0, 0] * 3).expand(height, width).clone()
        case "outlier":
            noise.view(-1)[int(torch.randint(noise.numel(), (), generator=generator))] = 1e6
            return noise
        case "offset":
            return 1e4 + noise
        case "steps":
            return (ramp * 3).floor() + 1e-4 * noise * (ramp > 0.8)
    raise ValueError(f"unknown kind of depth map {kind!r}; there are {', '.join(KINDS)}")


def make_pair(
    seed: int, *, batch: int = 2, height: int = 20, width: int = 28, kind: str = "smooth", dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    """Returns a prediction, a target and a mask (B, 1, H, W); the prediction is the target, changed in scale, shift
    and noise.
    """
    generator = torch.Generator().manual_seed(seed)
    target = torch.stack([make_map(kind, height, width, generator, dtype) for _ in range(batch)])[:, None]
    noise = torch.randn(target.shape, generator=generator, dtype=dtype)
    pred = 1.7 * target + 0.4 + 0.3 * noise
    mask = torch.rand(target.shape, generator=generator) > 0.2
    return pred, target, mask


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
