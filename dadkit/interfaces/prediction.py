"""What a depth model answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import torch
from torch import Tensor

from dadkit.spaces import Space, convert

__all__ = ["Estimate", "Prediction", "concatenate"]

_NO_FEATURES: Mapping[str, Tensor] = MappingProxyType({})


@dataclass(frozen=True, eq=False)
class Prediction:
    """What a depth model answers.

    Attributes:
        depth: (B, 1, H, W) float32, H x W of the input; what the numbers mean is said by ``space``.
        space: disparity (larger = nearer), depth or scale (larger = farther) or metric (metres).
        valid: (B, 1, H, W) bool, True = valid; None means that every pixel is.
        features: named feature taps: tokens (B, N, C) or maps (B, C, h, w).
        intrinsics: (B, 3, 3) camera matrices in pixels of the input, if the model estimates them.
        sky: (B, 1, H, W) bool, True = sky, if the model tells it; what ``depth`` says there means nothing.
    """

    depth: Tensor
    space: Space
    valid: Tensor | None = None
    features: Mapping[str, Tensor] = field(default_factory=lambda: _NO_FEATURES)
    intrinsics: Tensor | None = None
    sky: Tensor | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "space", Space(self.space))
        if self.depth.ndim != 4 or self.depth.shape[1] != 1:
            raise ValueError(f"Prediction.depth must be (B, 1, H, W), got {tuple(self.depth.shape)}")
        for name, mask in (("valid", self.valid), ("sky", self.sky)):
            if mask is not None and (mask.shape != self.depth.shape or mask.dtype != torch.bool):
                raise ValueError(
                    f"Prediction.{name} must be bool of shape {tuple(self.depth.shape)}, "
                    f"got {mask.dtype} of shape {tuple(mask.shape)}"
                )

    def cpu(self) -> Prediction:
        """Returns the same prediction in the CPU's memory."""
        found = {
            name: tensor.cpu()
            for name in ("depth", "valid", "intrinsics", "sky")
            if (tensor := getattr(self, name)) is not None
        }
        return replace(self, features={name: tap.cpu() for name, tap in self.features.items()}, **found)

    def to_space(self, space: Space | str) -> Prediction:
        """Returns the same prediction in another space, or :class:`SpaceError` if that needs a guess.

        Sky is settled on the way, whatever the spaces: it is infinitely far and valid in metres and in depth up to one factor
        (``inf``), its disparity is 0 and valid, and affine depth has no value for it, so there it is invalid.
        """
        space = Space(space)
        if space is self.space and self.sky is None:
            return self
        depth, valid = self.depth, self.valid
        if self.sky is not None and self.space in (Space.METRIC, Space.SCALE):
            depth = depth.masked_fill(self.sky, torch.inf)
            valid = None if valid is None else valid | self.sky
        depth, valid = convert(depth, valid, self.space, space)
        if self.sky is not None and space is Space.DISPARITY:
            depth = depth.masked_fill(self.sky, 0.0)
            valid = None if valid is None else valid | self.sky
        if self.sky is not None and space is Space.DEPTH:
            depth = depth.where(depth.isfinite(), 0.0)
            valid = ~self.sky if valid is None else valid & ~self.sky
        return replace(self, depth=depth, space=space, valid=valid)


@dataclass(frozen=True, eq=False)
class Estimate:
    """What :meth:`dadkit.interfaces.DepthModel.estimate` may answer instead of ``(depth, features)``.

    Attributes:
        depth: (B, 1, h, w) of any size, in the model's space.
        features: as in :class:`Prediction`.
        valid, sky: (B, 1, h, w) bool, of the size of ``depth``, or None.
        intrinsics: (B, 3, 3) in pixels of the network's input, or None.
    """

    depth: Tensor
    features: Mapping[str, Tensor] = field(default_factory=lambda: _NO_FEATURES)
    valid: Tensor | None = None
    sky: Tensor | None = None
    intrinsics: Tensor | None = None


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
    return Prediction(
        depth, first.space, join(lambda p: p.valid), features, join(lambda p: p.intrinsics), join(lambda p: p.sky)
    )
