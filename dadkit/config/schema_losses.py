"""The ``losses`` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from dadkit.config.section import ComponentConfig, Kind, Positive, Section, Weight
from dadkit.config.sections import ReferenceConfig

__all__ = ["AnchorLossConfig", "ExtraLossConfig", "FeatureLossConfig", "GradientLossConfig", "LossConfig", "MapLossConfig"]


class MapLossConfig(Section):
    """A loss on whole maps: which normalizer, how strongly."""

    weight: Weight = 1.0
    """Factor in the total; 0 turns the term off."""
    normalizer: Annotated[ComponentConfig, Kind("normalizer")] = Field(default_factory=lambda: ComponentConfig(name="hybrid"))
    """Makes the maps comparable: ``hybrid``, ``global``, ``local``, ``none``, or a plugin's."""
    trim: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Share of each image's largest per-pixel losses that is dropped (Depth Anything V2: 0.1)."""


class FeatureLossConfig(Section):
    """Feature alignment between the student's and a frozen encoder's last tokens."""

    weight: Weight = 0.0
    """Factor in the total; 0 turns the term off."""
    reference: Annotated[ReferenceConfig | Literal["teacher"], Kind("encoder", ("teacher",))] = "teacher"
    """Whose tokens: ``teacher`` = the first teacher of the stage, or any registered encoder or teacher that offers tokens."""
    student_tap: str = "tokens"
    """Name of the student's feature tap."""
    reference_tap: str = "tokens"
    """Name of the reference's feature tap."""
    loss: Literal["cosine", "channel-kl", "channel-mse", "spatial-kl", "pairwise"] = "cosine"
    """How features are compared: ``cosine`` (Depth Anything), or a row of Robust Lightweight's ablation."""
    cos_threshold: Annotated[float, Field(ge=-1, le=1)] = 0.85
    """``cosine``: tokens whose similarity is already above this are left alone."""
    tau: Annotated[float, Field(gt=0)] = 1.0
    """``channel-kl``, ``channel-mse``, ``spatial-kl``: temperature of the distributions (not from the paper)."""


class GradientLossConfig(Section):
    """Multi-scale gradient matching on globally normalised maps."""

    weight: Weight = 2.0
    """Factor in the total; 0 turns the term off."""
    scales: Annotated[int, Field(ge=1, le=8)] = 4
    """Number of scales, each half the size of the one before."""


class AnchorLossConfig(Section):
    """Keeps the student's magnitude in place, which the scale-free losses leave open."""

    weight: Weight = 0.1
    """Factor in the total; 0 turns the term off. Always off for metric students and under ``none``."""
    warmup_maps: Positive = 64
    """Maps of each teacher from which its typical scale is measured, before it is frozen."""


class ExtraLossConfig(ComponentConfig):
    """A registered loss on whole maps: the shared-context pair, and true depth."""

    weight: Weight = 1.0
    """Factor in the total."""
    on: Literal["both", "teachers", "labels"] = "both"
    """Which targets it looks at: pseudo-labels (``teachers``), true depth (``labels``), or both."""


class LossConfig(Section):
    """The terms of the total: ``shared + 0.5 local_global + feature + 2 gradient + anchor`` (Distill Any Depth, eq. 9)."""

    shared: MapLossConfig = Field(default_factory=MapLossConfig)
    """Teacher and student on the same region (L_sc)."""
    local_global: MapLossConfig = Field(default_factory=lambda: MapLossConfig(weight=0.5))
    """Teacher on native-detail patches of the region against the student's one map (L_lg); needs contexts with patches."""
    labelled: MapLossConfig = Field(default_factory=lambda: MapLossConfig(normalizer=ComponentConfig(name="global")))
    """Student against true depth, on labelled data."""
    gradient: GradientLossConfig = Field(default_factory=GradientLossConfig)
    """Gradient matching on the shared pair, and on true depth (L_grad)."""
    feature: FeatureLossConfig = Field(default_factory=FeatureLossConfig)
    """Feature alignment on unlabelled images (L_feat)."""
    anchor: AnchorLossConfig = Field(default_factory=AnchorLossConfig)
    """Scale anchor on the shared pair and on true depth (not from a paper)."""
    extra: Annotated[list[ExtraLossConfig], Kind("loss", ("term",))] = Field(default_factory=list)
    """Further registered losses and terms."""
