"""The typical scale of a source of maps."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from dadkit.losses.inputs import single_map
from dadkit.ops import Backend, choose, fused, reference
from dadkit.ops.reference.hybrid import is_flat

__all__ = ["ScaleMeter", "scale_of"]


def scale_of(x: Tensor, mask: Tensor | None, backend: Backend = "auto") -> tuple[Tensor, Tensor]:
    """Per map the mean absolute deviation about the median (B,), and whether the map is constant or has no valid pixel (B,)."""
    flat, mask = single_map("x", x, mask)
    _, mad = choose(backend, fused.median_mad, reference.median_mad, flat)(flat, mask)
    return mad, is_flat(flat if mask is None else torch.where(mask, flat, 0), mad)


class ScaleMeter(nn.Module):
    """Remembers log s of the first maps of a source, and answers with exp of their median: c of the scale anchor.

    s is the mean absolute deviation of a map about its median. Constant maps, and such as hold NaN or infinity, are skipped;
    once ``maps`` are in, the answer is frozen.

    Args:
        maps: how many are measured.

    State: two buffers, so ``state_dict`` brings it back exactly. Nothing here waits for the device.

    Example:
        >>> meter = ScaleMeter(maps=2)
        >>> meter.observe(torch.tensor([[[0.0, 1.0, 2.0, 3.0]], [[0.0, 4.0, 8.0, 12.0]]]))
        >>> round(meter.value().item(), 4)  # of the deviations 1 and 4, the lower median
        1.0
    """

    logs: Tensor
    count: Tensor

    def __init__(self, maps: int = 64) -> None:
        super().__init__()
        if maps < 1:
            raise ValueError(f"a scale is measured on at least one map, got {maps}")
        self.register_buffer("logs", torch.zeros(maps))
        self.register_buffer("count", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def observe(self, x: Tensor, mask: Tensor | None = None, *, backend: Backend = "auto") -> None:
        """Take in the maps (B, H, W) or (B, 1, H, W), valid where ``mask`` is True, measured by ``backend``."""
        mad, flat = scale_of(x, mask, backend)
        self.append(torch.where(flat, 1, mad).log(), ~flat)

    @torch.no_grad()
    def append(self, logs: Tensor, take: Tensor) -> None:
        """Take in measured logarithms (B,), those where ``take`` is True and which are finite."""
        take = take & logs.isfinite()
        place = self.count + take.cumsum(0) - 1
        hit = take[:, None] & (place[:, None] == torch.arange(len(self.logs), device=self.logs.device))
        written = torch.where(hit, logs.to(self.logs.dtype)[:, None], 0).sum(0)
        self.logs.copy_(torch.where(hit.any(0), written, self.logs))
        self.count.copy_((self.count + take.sum()).clamp(max=len(self.logs)))

    def log_value(self) -> Tensor:
        """Returns the lower median of the logarithms, a tensor of shape (); 0 before the first map."""
        filled = torch.arange(len(self.logs), device=self.logs.device) < self.count
        ordered = torch.where(filled, self.logs, torch.inf).sort().values
        middle = ordered.index_select(0, ((self.count - 1).clamp(min=0) // 2)[None])[0]
        return torch.where(self.count > 0, middle, 0)

    def value(self) -> Tensor:
        """Returns the typical scale, a tensor of shape (); 1 before the first map."""
        return self.log_value().exp()
