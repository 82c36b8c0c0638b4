"""Maps of neighbouring frames in one scale and shift."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dadkit.alignment import KEEPS_SHIFT
from dadkit.alignment.affine import factor, line
from dadkit.spaces import Space

__all__ = ["Steady"]

_SAMPLES = 20_000


class Steady:
    """Brings each map to the one before it.

    Scale and shift are those of least squares over at most 20,000 pixels, fitted again without the fifth that fits worst: what
    moves. Of maps whose shift is known (metric, or depth up to one factor) only the scale is fitted. A fit whose scale is
    outside 1/2 to 2, as at a cut, is not used: the film goes on from that frame. What is kept of the past is one map, so drift
    over long films is possible.

    Args:
        space: of the maps.

    Attributes:
        state: the last map before and after, how many changes there were, and their sums before and after.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self.state: list[Any] = []

    def __call__(self, depth: Tensor) -> Tensor:
        """Returns the map (1, H, W), aligned to the last one that was given."""
        step = max(1, int((depth.numel() / _SAMPLES) ** 0.5))
        raw = depth[0, ::step, ::step].double().cpu().flatten()
        scale, shift = 1.0, 0.0
        earlier, last, count, before, after = self.state or (None, None, 0, 0.0, 0.0)
        if last is not None and earlier is not None and last.shape == raw.shape:
            scale, shift = self._fit(raw, last)
            spread = float((earlier - earlier.mean()).abs().mean()) or 1.0
            count += 1
            before += float((raw - earlier).abs().mean()) / spread
            after += float((scale * raw + shift - last).abs().mean()) / spread
        self.state = [raw, scale * raw + shift, count, before, after]
        return depth * scale + shift

    def summary(self) -> str:
        """Returns the change from frame to frame before and after, in parts of a map's mean absolute deviation."""
        *_, count, before, after = self.state or (0, 0.0, 0.0)
        before, after = before / max(1, count), after / max(1, count)
        return f"steady: mean change from frame to frame {before:.4f} before, {after:.4f} after (1 = a map's mean deviation)"

    def _fit(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        keep = torch.isfinite(x) & torch.isfinite(y)
        scale, shift = 1.0, 0.0
        for _ in range(2):
            a, b = x[keep], y[keep]
            if a.numel() < 16:
                return 1.0, 0.0
            scale, shift = factor(a, b) if self.space in KEEPS_SHIFT else line(a, b)
            error = (scale * x + shift - y).abs()
            keep = keep & (error <= torch.quantile(error[keep], 0.8))
        return (scale, shift) if 0.5 <= scale <= 2 else (1.0, 0.0)
