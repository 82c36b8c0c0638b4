"""Neighbouring frames of a film on one scale and shift."""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.spaces import Space

__all__ = ["Steady"]

_SAMPLES = 20_000


class Steady:
    """Brings each map to the one before it.

    Scale and shift are those of least squares over at most 20,000 pixels, fitted again without the fifth that fits worst: what
    moves. Of a metric map only the scale is fitted. A fit whose scale is outside 1/2 to 2, as at a cut, is not used: the film
    goes on from that frame. What is kept of the past is one map, so drift over long films is possible.

    Args:
        space: of the maps.
    """

    def __init__(self, space: Space) -> None:
        self.space = space
        self._last: Tensor | None = None
        self._raw: Tensor | None = None
        self._before: list[float] = []
        self._after: list[float] = []

    def __call__(self, depth: Tensor) -> Tensor:
        """The map (1, H, W), aligned to the last one that was given."""
        step = max(1, int((depth.numel() / _SAMPLES) ** 0.5))
        raw = depth[0, ::step, ::step].double().cpu().flatten()
        scale, shift = 1.0, 0.0
        if self._last is not None and self._raw is not None and self._last.shape == raw.shape:
            scale, shift = self._fit(raw, self._last)
            spread = float((self._raw - self._raw.mean()).abs().mean()) or 1.0
            self._before.append(float((raw - self._raw).abs().mean()) / spread)
            self._after.append(float((scale * raw + shift - self._last).abs().mean()) / spread)
        self._last, self._raw = scale * raw + shift, raw
        return depth * scale + shift

    def summary(self) -> str:
        """The change from frame to frame before and after, in parts of a map's mean absolute deviation."""
        count = max(1, len(self._before))
        before, after = sum(self._before) / count, sum(self._after) / count
        return f"steady: mean change from frame to frame {before:.4f} before, {after:.4f} after (1 = a map's mean deviation)"

    def _fit(self, x: Tensor, y: Tensor) -> tuple[float, float]:
        keep = torch.isfinite(x) & torch.isfinite(y)
        scale, shift = 1.0, 0.0
        for _ in range(2):
            a, b = x[keep], y[keep]
            if a.numel() < 16:
                return 1.0, 0.0
            if self.space is Space.METRIC:
                scale, shift = float((a * b).sum() / (a * a).sum().clamp(min=1e-30)), 0.0
            else:
                centred = a - a.mean()
                scale = float((centred * (b - b.mean())).sum() / (centred**2).sum().clamp(min=1e-30))
                shift = float(b.mean() - scale * a.mean())
            error = (scale * x + shift - y).abs()
            keep = keep & (error <= torch.quantile(error[keep], 0.8))
        return (scale, shift) if 0.5 <= scale <= 2 else (1.0, 0.0)
