"""The terms of the total as built objects: what a stage's ``losses`` section becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from dadkit.config.components import build
from dadkit.config.schema import ComponentConfig, LossConfig, MapLossConfig
from dadkit.interfaces import Normalizer
from dadkit.normalizers import Global, Hybrid, Identity, Local
from dadkit.training.pairs import MapPair, PatchPair

__all__ = ["ExtraTerm", "FeatureTerm", "MapTerm", "Terms", "local_global_value", "map_value"]


@dataclass(frozen=True)
class MapTerm:
    """A normalised L1 between maps, with the share of each image's largest losses that is dropped."""

    weight: float
    normalizer: Normalizer
    trim: float = 0.0

    @property
    def raw(self) -> bool:
        """Whether values are compared as they are, so that magnitudes count."""
        return isinstance(self.normalizer, Identity)


@dataclass(frozen=True)
class FeatureTerm:
    """Feature alignment: names of both taps, threshold, and the adapter if the widths differ."""

    weight: float
    student_tap: str = "tokens"
    reference_tap: str = "tokens"
    cos_threshold: float = 0.85
    adapter: nn.Linear | None = None


@dataclass(frozen=True)
class ExtraTerm:
    """A registered loss ``(pred, target, mask) -> scalar`` on (B, 1, H, W) maps."""

    name: str
    weight: float
    loss: Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Terms:
    """All terms that are on; None, 0 or empty where one is off."""

    shared: MapTerm | None = None
    local_global: MapTerm | None = None
    labelled: MapTerm | None = None
    gradient: float = 0.0
    gradient_scales: int = 4
    feature: FeatureTerm | None = None
    anchor: float = 0.0
    extra: tuple[ExtraTerm, ...] = ()
    backend: str = "auto"

    @property
    def gradient_on_patches(self) -> bool:
        """Gradients are matched on the shared regions, or on the patches if those are all that is compared."""
        return self.shared is None and self.local_global is not None

    @property
    def needs_regions(self) -> bool:
        """Whether a term takes the teacher's map of the region."""
        on_regions = bool(self.gradient) and not self.gradient_on_patches
        return self.shared is not None or bool(self.anchor) or bool(self.extra) or on_regions

    @property
    def needs_scales(self) -> bool:
        """Whether a term depends on the target's magnitude, so that sources of different scale must be brought to one."""
        maps = [term for term in (self.shared, self.local_global, self.labelled) if term is not None]
        scale_free = (Hybrid, Global, Local)
        return bool(self.anchor) or bool(self.extra) or any(not isinstance(term.normalizer, scale_free) for term in maps)

    def weight(self, name: str) -> float:
        """The factor of a term in the total."""
        match name:
            case "gradient":
                return self.gradient
            case "anchor":
                return self.anchor
            case "shared" | "local_global" | "labelled" | "feature":
                return float(getattr(self, name).weight)
        return next(extra.weight for extra in self.extra if f"extra/{extra.name}" == name)
