"""The terms of the total as built objects: what a stage's ``losses`` section becomes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from dadkit.config.components import build
from dadkit.config.schema import ExtraLossConfig, FeatureLossConfig, LossConfig, MapLossConfig
from dadkit.interfaces import DepthModel, ImageNetwork, Normalizer
from dadkit.losses import channel_wise_loss, feature_alignment_loss, pairwise_loss, spatial_loss
from dadkit.losses.distributions import Divergence
from dadkit.normalizers import Global, Hybrid, Identity, Local, local_global, map_loss
from dadkit.ops import Backend
from dadkit.spaces import Space
from dadkit.training.features import align_features, make_adapter, to_grid
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
        maps = (pair.pred, pair.scaled_target, pair.mask)
        return pair.mean(partial(map_loss, self.normalizer, *maps, trim=self.trim, backend=self.backend))

    def on_patches(self, pair: PatchPair) -> Tensor:
        """The local-global loss, a mean over patches and images."""
        maps = (pair.pred, pair.scaled_target, pair.boxes, pair.mask)
        return local_global(self.normalizer, *maps, trim=self.trim, backend=self.backend)


FeatureLoss = Literal["cosine", "channel-kl", "channel-mse", "spatial-kl", "pairwise"]


@dataclass(frozen=True)
class FeatureTerm:
    """Feature alignment: names of both taps, how they are compared, and the adapter if that needs equal widths.

    Attributes:
        weight: factor in the total.
        student_tap, reference_tap: which features.
        loss: ``cosine`` (Depth Anything), or one of Robust Lightweight's ablation.
        cos_threshold: margin of ``cosine``.
        tau: temperature of the distributions.
        adapter: on the student's side, where widths differ.
    """

    weight: float
    student_tap: str = "tokens"
    reference_tap: str = "tokens"
    loss: FeatureLoss = "cosine"
    cos_threshold: float = 0.85
    tau: float = 1.0
    adapter: nn.Linear | None = None

    def compare(self, student: Mapping[str, Tensor], reference: Mapping[str, Tensor], view: tuple[int, int]) -> Tensor:
        """The loss of the student's features against the reference's, seen on views of (height, width).

        Raises:
            StageError: the loss compares places, and the reference's features have only one.
        """
        tokens = align_features(student[self.student_tap], reference[self.reference_tap], view, self.adapter)
        if self.loss == "cosine":
            return feature_alignment_loss(*tokens, cos_threshold=self.cos_threshold)
        own, wanted = (to_grid(part, view) for part in tokens)
        if self.loss != "spatial-kl" and own.shape[-2:].numel() == 1:
            raise StageError(
                f"losses.feature.loss: {self.loss} compares the places of a feature map, but the tap '{self.reference_tap}' of "
                f"the reference has a single one on views of {view[0]} x {view[1]} pixels, so the loss would always be 0; name "
                "a finer tap (losses.feature.student_tap, reference_tap), take larger views, or loss: spatial-kl or cosine"
            )
        match self.loss:
            case "channel-kl" | "channel-mse":
                divergence: Divergence = "kl" if self.loss == "channel-kl" else "mse"
                return channel_wise_loss(own, wanted, tau=self.tau, divergence=divergence)
            case "spatial-kl":
                return spatial_loss(own, wanted, tau=self.tau)
            case "pairwise":
                return pairwise_loss(own, wanted)


@dataclass(frozen=True)
class ExtraTerm:
    """A registered loss ``(pred, target, mask) -> scalar``, a mean over images, on (B, 1, H, W) maps.

    Attributes:
        name: the registered name, or what the loss calls itself by its attribute ``label``.
        weight: factor in the total.
        loss: it may also take the keywords ``intrinsics`` and ``frames``, (B, 3, 3) or None as in ``Batch``, and ``space``.
        on: ``teachers``: pseudo-labels only, ``labels``: true depth only, ``both``.
    """

    name: str
    weight: float
    loss: Callable[..., Tensor]
    on: Literal["both", "teachers", "labels"] = "both"

    def takes(self, pair: MapPair) -> bool:
        """Whether this pair is one of those that the term looks at."""
        return pair.whole and self.on in ("both", "labels" if pair.labelled else "teachers")

    def on_map(self, pair: MapPair, space: Space) -> Tensor:
        """The loss on whole maps. Regions are given to it one by one, since it answers with one number a call."""
        rows = [slice(None)] if pair.weights is None else [slice(row, row + 1) for row in range(len(pair.pred))]
        losses = [self._call(pair, rows_, space) for rows_ in rows]
        return losses[0] if pair.weights is None else (pair.weights * torch.stack(losses)).sum() / pair.images

    def _call(self, pair: MapPair, rows: slice, space: Space) -> Tensor:
        cameras = {"intrinsics": pair.intrinsics, "frames": pair.frames}
        known = {"space": str(space), **{name: None if x is None else x[rows] for name, x in cameras.items()}}
        wanted = _keywords(self.loss)
        maps = (pair.pred[rows], pair.scaled_target[rows], pair.mask[rows])
        return self.loss(*maps, **{name: value for name, value in known.items() if name in wanted})


def _keywords(loss: Callable[..., Any]) -> frozenset[str]:
    return frozenset(inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters)


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
        extra = any(term.on != "labels" for term in self.extra)
        return self.shared is not None or bool(self.anchor) or extra or on_regions

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


def build_terms(config: LossConfig, student: DepthModel, reference: ImageNetwork | None, backend: Backend) -> Terms:
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
    extra = tuple(_extra_term(item, student.spec.space) for item in config.extra if item.weight > 0)
    if len({term.name for term in extra}) < len(extra):
        raise StageError("losses.extra names one loss twice; give it once, with one weight")
    return Terms(
        shared=shared,
        local_global=_map_term(config.local_global, backend),
        labelled=_map_term(config.labelled, backend),
        gradient=config.gradient.weight,
        gradient_scales=config.gradient.scales,
        feature=_feature_term(config.feature, student, reference),
        anchor=0.0 if student.spec.space is Space.METRIC or (shared is not None and shared.raw) else config.anchor.weight,
        extra=extra,
        backend=backend,
    )


def _map_term(config: MapLossConfig, backend: Backend) -> MapTerm | None:
    if config.weight == 0:
        return None
    normalizer: Normalizer = build("normalizer", config.normalizer.name, config.normalizer.options)
    return MapTerm(config.weight, normalizer, config.trim, backend)


def _extra_term(config: ExtraLossConfig, space: Space) -> ExtraTerm:
    loss = build("loss", config.name, config.options)
    check = getattr(loss, "check_space", None)
    if check is not None:
        try:
            check(str(space))
        except ValueError as error:
            raise StageError(f"losses.extra: {config.name}: {error}") from error
    return ExtraTerm(getattr(loss, "label", config.name), config.weight, loss, config.on)


def _feature_term(config: FeatureLossConfig, student: DepthModel, reference: ImageNetwork | None) -> FeatureTerm | None:
    if config.weight == 0:
        return None
    if reference is None:
        raise StageError(
            "losses.feature follows a teacher's features, but the stage has no teachers: name a model (reference: {name: …})"
        )
    width = check_tap(student, config.student_tap, "the student")
    reference_width = check_tap(reference, config.reference_tap, "the reference")
    return FeatureTerm(
        config.weight,
        config.student_tap,
        config.reference_tap,
        config.loss,
        config.cos_threshold,
        config.tau,
        # Similarities between places need no equal widths.
        None if config.loss == "pairwise" else make_adapter(width, reference_width),
    )
