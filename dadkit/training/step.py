"""The loss of one (micro-)batch: what is compared with what, and how the terms add up.

    total = L_sc + 0.5 L_lg + 1.0 L_feat + 2.0 L_grad            (Distill Any Depth, equation 9 and section 4.1)
            + 0.1 L_anchor + labelled and extra terms            (ours; Depth Anything for the labelled term)

The weights are the configuration's. Each term is a mean over the images it applies to: L_sc, L_lg and L_feat over unlabelled
ones, the labelled term over labelled ones, the others over both. An image that CutMix mixed is compared region by region, and
its patches are left out: L_lg of such an image is 0. Models run under autocast, losses in float32 outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from dadkit.data.cutmix import paste
from dadkit.data.sample import Batch
from dadkit.interfaces import FeatureEncoder, Prediction, Teacher
from dadkit.losses import gradient_matching_loss, median_mad, scale_anchor_loss
from dadkit.losses.scale import scale_of
from dadkit.spaces import Space
from dadkit.training.ensemble import Drawn, Labeller, drawn_scale, label_with
from dadkit.training.features import read_features
from dadkit.training.labels import PseudoLabels, split_prediction
from dadkit.training.pairs import MapPair, PatchPair, labelled_target, to_float
from dadkit.training.regions import mixed_rows, regions_of
from dadkit.training.scale import LABELS, SourceScales
from dadkit.training.terms import FeatureTerm, Terms

__all__ = ["DistillationStep", "Drawn", "Labeller", "StepResult"]

StudentForward = Callable[[Tensor], Prediction]


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
    """Computes the loss of a batch. Its parameters are what the terms learn: a feature adapter, weights of a plugin's loss.

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
        reference: FeatureEncoder | Teacher | None = None,
        scales: SourceScales | None = None,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.terms, self.space, self.autocast = terms, space, autocast
        self.scales = scales or SourceScales()
        self.adapter = terms.feature.adapter if terms.feature else None
        # A loss with weights or buffers moves with this module.
        self.extra = nn.ModuleList(term.loss for term in terms.extra if isinstance(term.loss, nn.Module))
        self.teachers = tuple(teachers)
        # In a tuple too, so that no teacher's weights become a part of this module.
        self._reference = (reference,)

    def forward(
        self,
        student: StudentForward,
        unlabelled: Batch | None,
        labelled: Batch | None = None,
        *,
        teacher: Drawn = 0,
        images: tuple[int, int] | None = None,
        with_stats: bool = False,
    ) -> StepResult:
        """The loss of a (micro-)batch.

        Args:
            student: the student, perhaps compiled.
            unlabelled: images that teachers label, or None.
            labelled: images with true depth, or None.
            teacher: who was drawn: an index, one for each unlabelled image of this micro-batch, or None for all together.
            images: numbers of unlabelled and labelled images in the whole iteration; None = the micro-batch is all of it.
            with_stats: also answer with the statistics of the student's raw maps.
        """
        batches = [batch for batch in (unlabelled, labelled) if batch is not None]
        per_kind = images or (len(unlabelled or ()), len(labelled or ()))
        # Before the student, whose forward pass keeps much in memory: the teachers' passing results then do not lie beside it.
        seen = self._asked(unlabelled, teacher)
        predictions = self.predict(student, batches)
        values: dict[str, Tensor] = {}
        pairs: list[MapPair] = []
        if unlabelled is not None:
            pairs += self._unlabelled(values, predictions[0], unlabelled, teacher, seen, len(unlabelled) / per_kind[0])
        if labelled is not None:
            pairs.append(self._labelled(values, predictions[-1], labelled, len(labelled) / per_kind[1]))
        for pair in pairs:
            self._common(values, pair, pair.images / sum(per_kind))
        total = sum((self.terms.weight(name) * value for name, value in values.items()), predictions[0].depth.new_zeros(()))
        stats = self._stats([p.depth.detach() for p in predictions], sum(per_kind)) if with_stats else {}
        return StepResult(total, {name: value.detach() for name, value in values.items()}, stats)

    def label(
        self,
        batch: Batch,
        teacher: Drawn,
        *,
        regions: bool | None = None,
        patches: bool | None = None,
        rows: Sequence[int] | None = None,
    ) -> PseudoLabels:
        """What the drawn teachers answer for regions and patches; None = where some term asks for them.

        Args:
            batch: the images.
            teacher: who was drawn.
            regions, patches: whether these are wanted.
            rows: the images whose patches are wanted; None = all.
        """
        if regions is None:
            regions = self.terms.needs_regions or (self._follows_primary and teacher == 0)
        if patches is None:
            patches = self.terms.local_global is not None
        asked = (batch.images if regions else None, batch.patches if patches else None)
        with self._autocast(batch.images.device):
            return label_with(self.teachers, teacher, *asked, range(len(batch)) if rows is None else rows, self.space)

    @property
    def reference(self) -> FeatureEncoder | Teacher | None:
        """The model of its own whose features the student follows; None if it follows the primary teacher's, or none."""
        return self._reference[0]

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

    def _asked(self, batch: Batch | None, teacher: Drawn) -> PseudoLabels:
        """All labels that the terms want of the unlabelled images."""
        if batch is None or not self.teachers:
            return PseudoLabels()
        return self.label(batch, teacher, rows=mixed_rows(batch.pasted, len(batch))[0])

    def _unlabelled(
        self,
        values: dict[str, Tensor],
        student: Prediction,
        batch: Batch,
        teacher: Drawn,
        seen: PseudoLabels,
        share: float,
    ) -> list[MapPair]:
        """L_sc, L_lg and L_feat. Returns the pairs that the other terms take: the regions, the patches, or both."""
        terms = self.terms
        unmixed, mixed = mixed_rows(batch.pasted, len(batch))
        scale: float | Tensor = 1.0
        if self.teachers:
            scale = drawn_scale(self.teachers, teacher, self.scales)
            scale = scale.to(batch.images.device) if isinstance(scale, Tensor) else scale
        pairs: list[MapPair] = []
        if terms.feature is not None:
            clean = paste(batch.images, batch.pasted) if mixed and batch.pasted is not None else batch.images
            own = seen if teacher == 0 and not mixed else None
            values["feature"] = share * self._feature(terms.feature, student, clean, own)
        if seen.region is not None and seen.region_mask is not None:
            pair = MapPair(
                student.depth,
                seen.region,
                seen.region_mask,
                len(batch),
                scale,
                intrinsics=batch.intrinsics,
                frames=batch.frames,
                raw=terms.shared is not None and terms.shared.raw,
                slopes=not terms.gradient_on_patches,
            )
            pairs.append(_by_region(pair, batch, mixed) if mixed else pair)
            if terms.shared is not None:
                values["shared"] = share * terms.shared.on_map(pairs[-1])
        if terms.local_global is not None and seen.patches is not None and seen.patch_mask is not None:
            depth, boxes = (x[unmixed] if mixed else x for x in (student.depth, batch.boxes))
            some = scale[unmixed] if isinstance(scale, Tensor) else scale
            patches = PatchPair(depth, seen.patches, seen.patch_mask, boxes, some)
            values["local_global"] = share * (len(unmixed) / len(batch)) * terms.local_global.on_patches(patches)
            if terms.gradient_on_patches:
                pairs.append(patches.sampled(raw=terms.local_global.raw))
        return pairs

    def _labelled(self, values: dict[str, Tensor], student: Prediction, batch: Batch, share: float) -> MapPair:
        """The labelled term; returns its pair."""
        target, mask = labelled_target(batch, self.space)
        term = self.terms.labelled
        pair = MapPair(
            student.depth,
            target,
            mask,
            len(batch),
            self.scales.factor(LABELS),
            intrinsics=batch.intrinsics,
            frames=batch.frames,
            labelled=True,
            raw=term is not None and term.raw,
        )
        if term is not None:
            values["labelled"] = share * term.on_map(pair)
        return pair

    def _common(self, values: dict[str, Tensor], pair: MapPair, share: float) -> None:
        """L_grad, and on whole maps the anchor and the extra losses, added to what other pairs gave."""
        terms = self.terms
        found: dict[str, Tensor] = {}
        if terms.gradient and pair.slopes:
            maps = (pair.pred, pair.scaled_target if pair.raw else pair.target, pair.mask)
            match_slopes = partial(gradient_matching_loss, scales=terms.gradient_scales, normalize=not pair.raw)
            found["gradient"] = pair.mean(partial(match_slopes, *maps, backend=terms.backend))
        if terms.anchor and pair.whole and not pair.raw and self.space is not Space.METRIC:
            maps = (pair.pred, pair.target, pair.mask)
            found["anchor"] = pair.mean(partial(scale_anchor_loss, *maps, target_scale=1.0, student_scale=pair.scale))
        for extra in terms.extra:
            if extra.takes(pair):
                found[f"extra/{extra.name}"] = extra.on_map(pair, self.space)
        for name, value in found.items():
            values[name] = values[name] + share * value if name in values else share * value

    def _feature(self, term: FeatureTerm, student: Prediction, images: Tensor, primary: PseudoLabels | None) -> Tensor:
        """L_feat on the region view; the reference sees ``images``, the student's pixels before any change of colour.

        ``primary`` holds what the primary teacher has already said about these very pixels, if it was asked.
        """
        if self._follows_primary and primary is not None:
            features = primary.features
        else:
            reference = self.teachers[0].model if self._reference[0] is None else self._reference[0]
            with self._autocast(images.device):
                features = read_features(reference, to_float(images))
        return term.compare(student.features, features, (images.shape[-2], images.shape[-1]))

    def _stats(self, maps: list[Tensor], images: int) -> dict[str, Tensor]:
        depth = torch.cat(maps)
        median, mad = median_mad(depth)
        return {
            "median": median.sum() / images,
            "mad": mad.sum() / images,
            "nonpositive": (depth <= 0).float().mean((1, 2, 3)).sum() / images,
            "constant": scale_of(depth, None)[1].sum(),
        }


def _by_region(pair: MapPair, batch: Batch, mixed: Sequence[int]) -> MapPair:
    """The pair of a mixed batch, a row for each region."""
    assert batch.pasted is not None
    size = (pair.pred.shape[-2], pair.pred.shape[-1])
    regions = regions_of(batch.pasted, mixed, size, pair.pred.device)
    return replace(
        pair,
        pred=pair.pred[regions.seen],
        target=pair.target[regions.source],
        mask=pair.mask[regions.source] & regions.mask,
        scale=pair.scale[regions.source] if isinstance(pair.scale, Tensor) else pair.scale,
        weights=regions.weight,
        intrinsics=None if pair.intrinsics is None else pair.intrinsics[regions.source],
        frames=None if pair.frames is None else pair.frames[regions.source],
    )
