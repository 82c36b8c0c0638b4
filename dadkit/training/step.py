"""The loss of one (micro-)batch: what is compared with what, and how the terms add up.

    total = L_sc + 0.5 L_lg + 1.0 L_feat + 2.0 L_grad            (Distill Any Depth, equation 9 and section 4.1)
            + 0.1 L_anchor + labelled and extra terms            (ours; Depth Anything for the labelled term)

The weights are the configuration's. Each term is a mean over the images it applies to: L_sc, L_lg and L_feat over unlabelled
ones, the labelled term over labelled ones, the others over both. Models run under autocast, losses in float32 outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from dadkit.data.sample import Batch
from dadkit.interfaces import Prediction, Teacher
from dadkit.losses import feature_alignment_loss, gradient_matching_loss, median_mad, scale_anchor_loss
from dadkit.spaces import Space
from dadkit.training.features import align_features
from dadkit.training.labels import PseudoLabels, label, split_prediction
from dadkit.training.pairs import MapPair, PatchPair, labelled_target, to_float
from dadkit.training.scale import LABELS, SourceScales, is_constant
from dadkit.training.terms import FeatureTerm, Terms

__all__ = ["DistillationStep", "Labeller", "StepResult"]

StudentForward = Callable[[Tensor], Prediction]


@dataclass(frozen=True)
class Labeller:
    """A teacher under the name that logs and errors use, with its relative probability of being drawn."""

    name: str
    model: Teacher
    probability: float = 1.0


@dataclass
class StepResult:
    """What a step answers.

    Attributes:
        total: weighted sum of the terms, with gradient.
        terms: unweighted terms, detached scalars. Under accumulation those of the micro-batches add up to the iteration's.
        stats: of the student's raw maps: ``median``, ``mad``, ``nonpositive`` (means over images) and ``constant`` (a number of
            images); empty unless asked for. They add up in the same way.
    """

    total: Tensor
    terms: dict[str, Tensor]
    stats: dict[str, Tensor] = field(default_factory=dict)

    def named(self) -> dict[str, Tensor]:
        """Everything, detached, under the names that logs use: ``loss/total``, ``loss/shared``, ``student/median``, …."""
        return {
            "loss/total": self.total.detach(),
            **{f"loss/{name}": value for name, value in self.terms.items()},
            **{f"student/{name}": value for name, value in self.stats.items()},
        }


class DistillationStep(nn.Module):
    """Computes the loss of a batch. Its only parameters are those of the feature adapter, if there is one.

    Args:
        terms: the built terms.
        space: the student's space, to which every target is brought.
        teachers: who labels; the first is the primary one.
        reference: whose features the feature term follows; None = the primary teacher's.
        scales: typical magnitude of each source of targets (see ``scale.py``).
        autocast: dtype of both models' forward passes; None = float32.
    """

    def __init__(
        self,
        terms: Terms,
        *,
        space: Space,
        teachers: Sequence[Labeller] = (),
        reference: Teacher | None = None,
        scales: SourceScales | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.terms, self.space, self.autocast = terms, space, autocast
        self.scales = scales or SourceScales()
        self.adapter = terms.feature.adapter if terms.feature else None
        self.teachers = tuple(teachers)
        # In a tuple too, so that no teacher's weights become a part of this module.
        self._reference = (reference,)

    def forward(
        self,
        student: StudentForward,
        unlabelled: Batch | None,
        labelled: Batch | None = None,
        *,
        teacher: int = 0,
        images: tuple[int, int] | None = None,
        with_stats: bool = False,
    ) -> StepResult:
        """The loss of a (micro-)batch.

        Args:
            student: the student, perhaps compiled.
            unlabelled: images that ``teachers[teacher]`` labels, or None.
            labelled: images with true depth, or None.
            teacher: the teacher drawn for this iteration.
            images: numbers of unlabelled and labelled images in the whole iteration; None = the micro-batch is all of it.
            with_stats: also answer with the statistics of the student's raw maps.
        """
        batches = [batch for batch in (unlabelled, labelled) if batch is not None]
        per_kind = images or (len(unlabelled or ()), len(labelled or ()))
        predictions = self.predict(student, batches)
        values: dict[str, Tensor] = {}
        pairs: list[MapPair] = []
        if unlabelled is not None:
            pairs += self._unlabelled(values, predictions[0], unlabelled, teacher, len(unlabelled) / per_kind[0])
        if labelled is not None:
            pairs.append(self._labelled(values, predictions[-1], labelled, len(labelled) / per_kind[1]))
        for pair in pairs:
            self._common(values, pair, pair.images / sum(per_kind))
        total = sum((self.terms.weight(name) * value for name, value in values.items()), predictions[0].depth.new_zeros(()))
        stats = self._stats([p.depth.detach() for p in predictions], sum(per_kind)) if with_stats else {}
        return StepResult(total, {name: value.detach() for name, value in values.items()}, stats)

    def label(self, batch: Batch, teacher: int, *, regions: bool | None = None, patches: bool | None = None) -> PseudoLabels:
        """What ``teachers[teacher]`` answers for regions and patches; None = where some term asks for them."""
        if regions is None:
            regions = self.terms.needs_regions or (self._follows_primary and teacher == 0)
        if patches is None:
            patches = self.terms.local_global is not None
        with self._autocast(batch.images.device):
            return label(self.teachers[teacher].model, batch, self.space, regions=regions, patches=patches)

    @property
    def _follows_primary(self) -> bool:
        return self.terms.feature is not None and self._reference[0] is None

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=self.autocast or torch.bfloat16, enabled=self.autocast is not None)

    def predict(self, student: StudentForward, batches: list[Batch]) -> list[Prediction]:
        """The student on all images in one forward pass, so that batch statistics see them together; split by kind again."""
        views = torch.cat([batch.student_images for batch in batches])
        with self._autocast(views.device):
            prediction = student(to_float(views))
        return split_prediction(prediction, [len(batch) for batch in batches])

    def _unlabelled(
        self, values: dict[str, Tensor], student: Prediction, batch: Batch, teacher: int, share: float
    ) -> list[MapPair]:
        """L_sc, L_lg and L_feat. Returns the pairs that the other terms take: the regions, the patches, or both."""
        terms = self.terms
        seen = self.label(batch, teacher) if self.teachers else PseudoLabels()
        scale = self.scales.factor(self.teachers[teacher].name) if self.teachers else 1.0
        pairs: list[MapPair] = []
        if terms.feature is not None:
            values["feature"] = share * self._feature(terms.feature, student, batch, seen, teacher)
        if seen.region is not None and seen.region_mask is not None:
            raw = terms.shared is not None and terms.shared.raw
            slopes = not terms.gradient_on_patches
            pair = MapPair(student.depth, seen.region, seen.region_mask, len(batch), scale, raw=raw, slopes=slopes)
            pairs.append(pair)
            if terms.shared is not None:
                values["shared"] = share * terms.shared.on_map(pair)
        if terms.local_global is not None and seen.patches is not None and seen.patch_mask is not None:
            patches = PatchPair(student.depth, seen.patches, seen.patch_mask, batch.boxes, scale)
            values["local_global"] = share * terms.local_global.on_patches(patches)
            if terms.gradient_on_patches:
                pairs.append(patches.sampled(raw=terms.local_global.raw))
        return pairs

    def _labelled(self, values: dict[str, Tensor], student: Prediction, batch: Batch, share: float) -> MapPair:
        """The labelled term; returns its pair."""
        target, mask = labelled_target(batch, self.space)
        term = self.terms.labelled
        pair = MapPair(student.depth, target, mask, len(batch), self.scales.factor(LABELS), raw=term is not None and term.raw)
        if term is not None:
            values["labelled"] = share * term.on_map(pair)
        return pair

    def _common(self, values: dict[str, Tensor], pair: MapPair, share: float) -> None:
        """L_grad, and on whole maps the anchor and the extra losses, added to what other pairs gave."""
        terms = self.terms
        found: dict[str, Tensor] = {}
        if terms.gradient and pair.slopes:
            target = pair.scaled_target if pair.raw else pair.target
            found["gradient"] = gradient_matching_loss(
                pair.pred, target, pair.mask, scales=terms.gradient_scales, normalize=not pair.raw, backend=terms.backend
            )
        if terms.anchor and pair.whole and not pair.raw and self.space is not Space.METRIC:
            found["anchor"] = scale_anchor_loss(pair.pred, pair.target, pair.mask, target_scale=1.0, student_scale=pair.scale)
        if pair.whole:
            for extra in terms.extra:
                found[f"extra/{extra.name}"] = extra.loss(pair.pred, pair.scaled_target, pair.mask)
        for name, value in found.items():
            values[name] = values[name] + share * value if name in values else share * value

    def _feature(self, term: FeatureTerm, student: Prediction, batch: Batch, seen: PseudoLabels, teacher: int) -> Tensor:
        """L_feat on the region view; the reference sees the clean pixels."""
        if self._follows_primary and teacher == 0:
            features = seen.features
        else:
            reference = self.teachers[0].model if self._reference[0] is None else self._reference[0]
            with self._autocast(batch.images.device):
                features = reference(to_float(batch.images)).features
        view = (batch.images.shape[-2], batch.images.shape[-1])
        own, wanted = align_features(student.features[term.student_tap], features[term.reference_tap], view, self.adapter)
        return feature_alignment_loss(own, wanted, cos_threshold=term.cos_threshold)

    def _stats(self, maps: list[Tensor], images: int) -> dict[str, Tensor]:
        depth = torch.cat(maps)
        median, mad = median_mad(depth)
        return {
            "median": median.sum() / images,
            "mad": mad.sum() / images,
            "nonpositive": (depth <= 0).float().mean((1, 2, 3)).sum() / images,
            "constant": is_constant(depth, mad).sum(),
        }
