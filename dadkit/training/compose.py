"""From a stage's ``losses`` section to its terms."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dadkit.config.components import build
from dadkit.config.schema import ExtraLossConfig, FeatureLossConfig, LossConfig, MapLossConfig
from dadkit.interfaces import DepthModel, ImageNetwork, Normalizer, Term
from dadkit.normalizers import Identity
from dadkit.ops import Backend
from dadkit.plugin import get_registry
from dadkit.spaces import Space
from dadkit.training.soundness import StageError, StageTerm, check_tap
from dadkit.training.terms import Anchor, FeatureTerm, GradientTerm, LossTerm, MapTerm, PatchTerm, Where

__all__ = ["Maps", "build_terms", "combine", "follows_features"]

EXTRA = ("loss", "term")
"""Kinds of component that ``losses.extra`` may name."""


class Maps(NamedTuple):
    """What ``shared``, ``local_global`` and ``labelled`` say: factor in the total, normalizer, trim."""

    weight: float
    normalizer: Normalizer
    trim: float = 0.0

    @property
    def raw(self) -> bool:
        """True if values are compared as they are."""
        return isinstance(self.normalizer, Identity)


def build_terms(
    config: LossConfig, student: DepthModel, reference: ImageNetwork | None, backend: Backend
) -> tuple[StageTerm, ...]:
    """Build what a ``losses`` section names.

    Args:
        config: the section.
        student: its space and feature taps decide about anchor and adapter.
        reference: the model whose features are followed, if there is one.
        backend: the implementation of the losses.

    Raises:
        StageError: a term asks for a tap that a model does not offer.
        dadkit.plugin.PluginError, dadkit.config.ConfigError: a component cannot be built.
    """
    shared = _maps(config.shared)
    extra = tuple(_extra(index, item) for index, item in enumerate(config.extra) if item.weight > 0)
    if len({term.name for term in extra}) < len(extra):
        raise StageError("losses.extra names one loss twice; give it once, with one weight")
    return combine(
        shared=shared,
        local_global=_maps(config.local_global),
        labelled=_maps(config.labelled),
        gradient=config.gradient.weight,
        gradient_scales=config.gradient.scales,
        feature=_feature(config.feature, student, reference),
        anchor=config.anchor.weight,
        extra=extra,
        space=student.spec.space,
        backend=backend,
    )


def combine(
    *,
    shared: Maps | None = None,
    local_global: Maps | None = None,
    labelled: Maps | None = None,
    gradient: float = 0.0,
    gradient_scales: int = 4,
    feature: StageTerm | None = None,
    anchor: float = 0.0,
    extra: Sequence[StageTerm] = (),
    space: Space = Space.DISPARITY,
    backend: Backend = "auto",
) -> tuple[StageTerm, ...]:
    """Returns the terms of the formula at the top of ``step.py``; None, 0 or empty where one is off.

    Gradients are matched on regions, or on patches if those are all that is compared; and they are matched raw where values are
    compared raw. Values that are compared raw need no anchor, and neither do metric students, whose scale is metres.
    """
    terms = [] if feature is None else [feature]
    if shared is not None:
        terms.append(StageTerm("shared", shared.weight, MapTerm("regions", shared.normalizer, shared.trim, backend)))
    if local_global is not None:
        term = PatchTerm(local_global.normalizer, local_global.trim, backend)
        terms.append(StageTerm("local_global", local_global.weight, term))
    if labelled is not None:
        terms.append(StageTerm("labelled", labelled.weight, MapTerm("labels", labelled.normalizer, labelled.trim, backend)))
    if gradient:
        on_patches = shared is None and local_global is not None
        pairs: tuple[tuple[Where, Maps | None], ...] = (
            ("patches", local_global) if on_patches else ("regions", shared),
            ("labels", labelled),
        )
        for where, maps in pairs:
            matched = GradientTerm(where, gradient_scales, values=maps is not None and maps.raw, backend=backend)
            terms.append(StageTerm("gradient", gradient, matched))
    if anchor and space is not Space.METRIC and not (shared is not None and shared.raw):
        terms.append(StageTerm("anchor", anchor, Anchor("regions")))
        if not (labelled is not None and labelled.raw):
            terms.append(StageTerm("anchor", anchor, Anchor("labels")))
    return (*terms, *extra)


def follows_features(config: LossConfig) -> bool:
    """True if a term of the section looks at a reference's features. A plugin's term says so on its class."""
    registry = get_registry()
    found = [registry.resolve_first(EXTRA, item.name) for item in config.extra if item.weight > 0]
    needs = [getattr(registry.load(component), "needs", ()) for component in found if component.kind == "term"]
    return config.feature.weight > 0 or any("features" in some for some in needs)


def _maps(config: MapLossConfig) -> Maps | None:
    if config.weight == 0:
        return None
    return Maps(config.weight, build("normalizer", config.normalizer.name, config.normalizer.options), config.trim)


def _extra(index: int, config: ExtraLossConfig) -> StageTerm:
    kind = get_registry().resolve_first(EXTRA, config.name).kind
    made = build(kind, config.name, config.options)
    if kind == "term" and config.on != "both":
        raise StageError(
            f"losses.extra.{index}.on: '{config.name}' is a term, and says itself what it looks at; leave 'on' out"
        )
    if kind == "loss":
        term: Term = LossTerm(made, config.on)
    elif isinstance(made, Term):
        term = made
    else:
        raise StageError(
            f"losses.extra.{index}: '{config.name}' built a {type(made).__qualname__}, not a dadkit.interfaces.Term"
        )
    return StageTerm(f"extra/{getattr(made, 'label', config.name)}", config.weight, term, ("losses", "extra", index))


def _feature(config: FeatureLossConfig, student: DepthModel, reference: ImageNetwork | None) -> StageTerm | None:
    if config.weight == 0:
        return None
    if reference is None:
        raise StageError(
            "losses.feature follows a teacher's features, but the stage has no teachers: name a model (reference: {name: …})"
        )
    widths = check_tap(student, config.student_tap, "the student"), check_tap(reference, config.reference_tap, "the reference")
    options = (config.student_tap, config.reference_tap, config.loss, config.cos_threshold, config.tau)
    return StageTerm("feature", config.weight, FeatureTerm(*options, widths))
