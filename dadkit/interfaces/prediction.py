"""What a depth model answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from dadkit.spaces import Space, convert

__all__ = ["Prediction", "concatenate"]

_NO_FEATURES: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a depth model answers.

    Attributes:
        depth: (B, 1, H, W) float32, H x W of the input; what the numbers mean is said by ``space``.
        space: disparity (larger = nearer), depth (larger = farther) or metric (metres).
        valid: (B, 1, H, W) bool, True = valid; None means that every pixel is.
        features: named feature taps: tokens (B, N, C) or maps (B, C, h, w).
        intrinsics: (B, 3, 3) camera matrices in pixels of the input, if the model estimates them.
    """

    depth: Tensor
    space: Space
    valid: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=lambda: _NO_FEATURES)
    intrinsics: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", Space(self.space))
        if self.depth.ndim != 4 or self.depth.shape[1] != 1:
            raise ValueError(f"Prediction.depth must be (B, 1, H, W), got {tuple(self.depth.shape)}")
        if self.valid is not None and (self.valid.shape != self.depth.shape or self.valid.dtype != torch.bool):
            raise ValueError(
                f"Prediction.valid must be bool of shape {tuple(self.depth.shape)}, "
                f"got {self.valid.dtype} of shape {tuple(self.valid.shape)}"
            )

    def to_space(self, space: Space | str) -> Prediction:
        """The same prediction in another space, or :class:`SpaceError` if that needs a guess."""
        if Space(space) is self.space:
            return self
        depth, valid = convert(self.depth, self.valid, self.space, space)
        return replace(self, depth=depth, space=Space(space), valid=valid)


def concatenate(parts: Sequence[Prediction]) -> Prediction:
    """Predictions of one model for several batches as one."""
    if len(parts) == 1:
        return parts[0]
    first = parts[0]

    def join(pick: Callable[[Prediction], Tensor | None]) -> Tensor | None:
        picked = [tensor for part in parts if (tensor := pick(part)) is not None]
        return torch.cat(picked) if picked else None

    features = {name: torch.cat([p.features[name] for p in parts]) for name in first.features}
    depth = torch.cat([p.depth for p in parts])
    return Prediction(depth, first.space, join(lambda p: p.valid), features, join(lambda p: p.intrinsics))
