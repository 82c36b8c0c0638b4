"""The terms of the total as built objects: what a stage's ``losses`` section becomes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from dadkit.config.components import build
from dadkit.config.schema import FeatureLossConfig, LossConfig, MapLossConfig
from dadkit.interfaces import DepthModel, Normalizer
from dadkit.normalizers import Global, Hybrid, Identity, Local, local_global, map_loss
from dadkit.ops import Backend
from dadkit.spaces import Space
from dadkit.training.features import make_adapter
from dadkit.training.pairs import MapPair, PatchPair
from dadkit.training.soundness import StageError, check_tap

__all__ = ["ExtraTerm", "FeatureTerm", "MapTerm", "Terms", "build_terms"]


@dataclass(frozen=True)
class MapTerm:
    """A normalised L1 between maps.

    Attributes:
        weight: factor in the total.
        normalizer: makes both maps comparable.
        trim: share of each image's largest losses that is dropped.
        backend: which implementation.
    """

    weight: float
    normalizer: Normalizer
    trim: float = 0.0
    backend: Backend = "auto"

    @property
    def raw(self) -> bool:
        """Whether values are compared as they are, so that magnitudes count."""
        return isinstance(self.normalizer, Identity)

    @property
    def scale_free(self) -> bool:
        """Whether the target's scale is known not to matter; a plugin's normalizer may use it."""
        return isinstance(self.normalizer, Hybrid | Global | Local)

    def on_map(self, pair: MapPair) -> Tensor:
        """The loss on whole maps, a mean over images."""
        return map_loss(self.normalizer, pair.pred, pair.scaled_target, pair.mask, trim=self.trim, backend=self.backend)

    def on_patches(self, pair: PatchPair) -> Tensor:
        """The local-global loss, a mean over patches and images."""
        target = pair.target * pair.scale
        return local_global(self.normalizer, pair.pred, target, pair.boxes, pair.mask, trim=self.trim, backend=self.backend)


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
    backend: Backend = "auto"

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
        return bool(self.anchor) or bool(self.extra) or not all(term.scale_free for term in maps)

    def weight(self, name: str) -> float:
        """The factor of a term in the total."""
        match name:
            case "gradient" | "anchor":
                return float(getattr(self, name))
            case "shared" | "local_global" | "labelled" | "feature":
                return float(getattr(self, name).weight)
        return next(extra.weight for extra in self.extra if f"extra/{extra.name}" == name)


def build_terms(config: LossConfig, student: DepthModel, reference: DepthModel | None, backend: Backend) -> Terms:
    """Build what a ``losses`` section names.

    The anchor is off for metric students, whose scale is metres, and where ``shared`` compares raw values.

    Args:
        config: the section.
        student: its space and feature taps decide about anchor and adapter.
        reference: whose features the feature term follows, if there is one.
        backend: which implementation of the losses.

    Raises:
        StageError: the feature term asks for a tap that a model does not offer.
    """
    shared = _map_term(config.shared, backend)
    extra = [item for item in config.extra if item.weight > 0]
    if len({item.name for item in extra}) < len(extra):
        raise StageError("losses.extra names one loss twice; give it once, with one weight")
    return Terms(
        shared=shared,
        local_global=_map_term(config.local_global, backend),
        labelled=_map_term(config.labelled, backend),
        gradient=config.gradient.weight,
        gradient_scales=config.gradient.scales,
        feature=_feature_term(config.feature, student, reference),
        anchor=0.0 if student.spec.space is Space.METRIC or (shared is not None and shared.raw) else config.anchor.weight,
        extra=tuple(ExtraTerm(item.name, item.weight, build("loss", item.name, item.options)) for item in extra),
        backend=backend,
    )


def _map_term(config: MapLossConfig, backend: Backend) -> MapTerm | None:
    if config.weight == 0:
        return None
    normalizer: Normalizer = build("normalizer", config.normalizer.name, config.normalizer.options)
    return MapTerm(config.weight, normalizer, config.trim, backend)


def _feature_term(config: FeatureLossConfig, student: DepthModel, reference: DepthModel | None) -> FeatureTerm | None:
    if config.weight == 0:
        return None
    if reference is None:
        raise StageError(
            "losses.feature follows a teacher's features, but the stage has no teachers: name a model (reference: {name: …})"
        )
    width = check_tap(student, config.student_tap, "the student")
    reference_width = check_tap(reference, config.reference_tap, "the reference")
    adapter = make_adapter(width, reference_width)
    return FeatureTerm(config.weight, config.student_tap, config.reference_tap, config.cos_threshold, adapter)
