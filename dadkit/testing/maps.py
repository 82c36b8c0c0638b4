"""Depth maps of every kind that the losses document, from a generator: what the hypothesis strategies and the checks draw."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

__all__ = ["KINDS", "TAME_KINDS", "make_map", "make_pair"]

KINDS = ("smooth", "noise", "ties", "quantised", "sky", "constant", "outlier", "offset", "steps")
"""Kinds of depth maps: a scene with noise; pure noise; few small integers; 32 values; exact zeros at the top; one value; one
pixel a million times too large; noise on an offset of 10,000; flat plateaus (segments without deviation)."""

TAME_KINDS = ("smooth", "noise", "quantised", "sky", "steps")
"""Those on which equalities hold to a few digits less than the dtype has."""


def make_map(kind: str, height: int, width: int, generator: torch.Generator, dtype: torch.dtype = torch.float32) -> Tensor:
    """A map (H, W) of one of :data:`KINDS`.

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
    """A prediction, a target and a mask (B, 1, H, W); the prediction is the target, changed in scale, shift and noise."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.stack([make_map(kind, height, width, generator, dtype) for _ in range(batch)])[:, None]
    noise = torch.randn(target.shape, generator=generator, dtype=dtype)
    pred = 1.7 * target + 0.4 + 0.3 * noise
    mask = torch.rand(target.shape, generator=generator) > 0.2
    return pred, target, mask
