"""The loss of one (micro-)batch: what the terms need is computed once, then the terms are called and added up.

    total = L_sc + 0.5 L_lg + 1.0 L_feat + 2.0 L_grad            (Distill Any Depth, equation 9 and section 4.1)
            + 0.1 L_anchor + labelled and extra terms            (ours; Depth Anything for the labelled term)

The weights are the configuration's. Each term is a mean over images: L_sc, L_lg and L_feat over unlabelled ones, the labelled
term over labelled ones, the others over both. An image that CutMix mixed is compared region by region, and its patches are left
out: L_lg of such an image is 0. Models run under autocast, losses in float32 outside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from dadkit.data.perturbations import inside, partners, paste
from dadkit.data.sample import Batch
from dadkit.interfaces import (
    CameraError,
    FeatureEncoder,
    FeaturePair,
    MapPair,
    Need,
    PatchPair,
    Prediction,
    StepInputs,
    Teacher,
    Term,
    known_cameras,
)
from dadkit.losses import median_mad
from dadkit.losses.scale import scale_of
from dadkit.spaces import Space
from dadkit.training.labels import (
    Drawn,
    Labeller,
    PseudoLabels,
    drawn_scale,
    label_with,
    labelled_target,
    split_prediction,
    to_float,
    usable,
)
from dadkit.training.scale import LABELS, SourceScales
from dadkit.training.soundness import StageTerm

__all__ = ["DistillationStep", "StepResult", "by_region", "mixed_rows"]

StudentForward = Callable[..., Prediction]
# A run whose models need cameras stops after so many pictures without one.
_WITHOUT_CAMERA = 1000


@dataclass
class StepResult:
    """What a step answers.

    Attributes:
        total: weighted sum of the terms, with gradient.
        terms: unweighted terms, detached scalars. Under accumulation those of the micro-batches add up to the iteration's.
        stats: of the student's raw maps: ``median``, ``mad``, ``nonpositive`` (means over images) and ``constant`` (a number of
            images); and the terms' :meth:`~dadkit.interfaces.Term.diagnostics`. Empty unless asked for. They add up in the
            same way.
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
    """Computes the loss of a batch. Its parameters are what the terms learn: a feature adapter, weights of a plugin's term.

    Args:
        terms: the terms, in the order in which they are called.
        space: the student's space, to which every target is brought.
        teachers: the models that label; the first is the primary one.
        reference: whose features are followed; None = the primary teacher's.
        cameras: whether the student takes cameras.
        need_cameras: names of models that have no answer for a picture whose camera is unknown.
        scales: typical magnitude of each source of targets.
        autocast: dtype of both models' forward passes; None = float32.
        sky_depth: of true depth, see :func:`dadkit.training.labels.labelled_target`.
    """

    def __init__(
        self,
        terms: Sequence[StageTerm],
        *,
        space: Space,
        teachers: Sequence[Labeller] = (),
        reference: FeatureEncoder | Teacher | None = None,
        cameras: bool = False,
        need_cameras: Sequence[str] = (),
        scales: SourceScales | None = None,
        autocast: torch.dtype | None = None,
        sky_depth: float | None = None,
    ) -> None:
        super().__init__()
        self.terms, self.space, self.autocast = tuple(terms), space, autocast
        self._sky_depth = sky_depth
        self.learned = nn.ModuleList(term for _, _, term, _ in self.terms)
        self.needs: frozenset[Need] = frozenset().union(*(term.needs for _, _, term, _ in self.terms))
        self.weights = {name: weight for name, weight, _, _ in self.terms}
        self.scales = scales or SourceScales()
        self.teachers, self.cameras, self.need_cameras = tuple(teachers), cameras, tuple(need_cameras)
        self._without_camera = 0
        # In a tuple too, so that no frozen model's weights become a part of this module.
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
        """Returns the loss of a (micro-)batch.

        Args:
            student: the student, perhaps compiled.
            unlabelled: images that teachers label, or None.
            labelled: images with true depth, or None.
            teacher: the drawn teacher: an index, one for each unlabelled image of this micro-batch, or None for all together.
            images: numbers of unlabelled and labelled images in the whole iteration; None = the micro-batch is all of it.
            with_stats: also answer with the statistics of the student's raw maps.
        """
        batches = [batch for batch in (unlabelled, labelled) if batch is not None]
        if self.need_cameras:
            self._look_for_cameras(batches)
        counts = images or (len(unlabelled or ()), len(labelled or ()))
        # The teachers come before the student, whose forward pass keeps much in memory: their passing results are gone by then.
        seen = PseudoLabels()
        if unlabelled is not None and self.teachers:
            seen = self.label(unlabelled, teacher, rows=mixed_rows(unlabelled.pasted, len(unlabelled))[0])
        predictions = self.predict(student, batches)
        inputs: list[StepInputs] = []
        if unlabelled is not None:
            inputs.append(self._unlabelled(predictions[0], unlabelled, teacher, seen))
        if labelled is not None:
            inputs.append(self._labelled(predictions[-1], labelled))

        values: dict[str, Tensor] = {}
        for over_all in (False, True):
            for part in inputs:
                for name, _, term, _ in self.terms:
                    if term.over_all_images is over_all and part.serves(term.needs):
                        value = part.looked_at(term.needs) / _among(term, counts) * term(part)
                        values[name] = values[name] + value if name in values else value
        total = sum((self.weights[name] * value for name, value in values.items()), predictions[0].depth.new_zeros(()))
        stats = self._stats([p.depth.detach() for p in predictions], sum(counts)) if with_stats else {}
        for part in inputs if with_stats else ():
            for _, _, term, _ in self.terms:
                for name, rows in term.diagnostics(part).items() if part.serves(term.needs) else ():
                    stats[name] = stats.get(name, 0) + rows.sum() / _among(term, counts)
        return StepResult(total, {name: value.detach() for name, value in values.items()}, stats)

    def _look_for_cameras(self, batches: Sequence[Batch]) -> None:
        """Stop a run whose data have no camera at all: it would learn nothing, and say so nowhere."""
        if any(bool(known_cameras(batch.cameras()).any()) for batch in batches):
            self.need_cameras = ()
            return
        self._without_camera += sum(map(len, batches))
        if self._without_camera >= _WITHOUT_CAMERA:
            raise CameraError(
                f"none of the first {self._without_camera} pictures has a camera, and {' and '.join(self.need_cameras)} "
                "answers in metres only with one: give the dataset's cameras (pairs: intrinsics), photographs with a focal "
                "length in their EXIF data, the model's option fov, or, of a teacher of disparity students, space: scale"
            )

    def _unlabelled(self, student: Prediction, batch: Batch, teacher: Drawn, seen: PseudoLabels) -> StepInputs:
        """Returns what terms look at of unlabelled images."""
        unmixed, mixed = mixed_rows(batch.pasted, len(batch))
        features = self._features(student, batch, seen if teacher == 0 and not mixed else None, mixed)
        scale = drawn_scale(self.teachers, teacher, self.scales) if self.teachers else 1.0
        scale = scale.to(batch.images.device) if isinstance(scale, Tensor) else scale
        patches = None
        if seen.patches is not None and seen.patch_mask is not None:
            depth, boxes = (x[unmixed] if mixed else x for x in (student.depth, batch.boxes))
            some = scale[unmixed] if isinstance(scale, Tensor) else scale
            answered = True if student.valid is None else student.valid.flatten(1).any(1)[unmixed, None, None, None]
            patches = PatchPair(depth, seen.patches, seen.patch_mask & answered, boxes, some)
        everyone = self._everyone(student, batch, teacher, seen, mixed) if "teachers" in self.needs else {}
        maps = self._regions(student, batch, seen, scale, mixed)
        return StepInputs(self.space, len(batch), False, maps, patches, features, everyone)

    def truth(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """True depth as the student's target: ``(target, mask)``."""
        return labelled_target(batch, self.space, sky_depth=self._sky_depth)

    def _labelled(self, student: Prediction, batch: Batch) -> StepInputs:
        """Returns what terms look at of labelled images."""
        target, mask = self.truth(batch)
        mask = mask if student.valid is None else mask & student.valid
        cameras = (batch.intrinsics, batch.frames) if "cameras" in self.needs else (None, None)
        pair = MapPair(student.depth, target, mask, len(batch), self.scales.factor(LABELS), None, *cameras)
        return StepInputs(self.space, len(batch), True, pair)

    def _regions(
        self, student: Prediction, batch: Batch, seen: PseudoLabels, scale: float | Tensor, mixed: Sequence[int]
    ) -> MapPair | None:
        """Student beside teacher on the same regions; a row for each region of an image that CutMix mixed.

        Where the student has no answer, such as metres without a camera, nothing is compared.
        """
        if seen.region is None or seen.region_mask is None:
            return None
        cameras = (batch.intrinsics, batch.frames) if "cameras" in self.needs else (None, None)
        mask = seen.region_mask if student.valid is None else seen.region_mask & student.valid
        pair = MapPair(student.depth, seen.region, mask, len(batch), scale, None, *cameras)
        return by_region(pair, batch.pasted, mixed) if mixed and batch.pasted is not None else pair

    def _everyone(
        self, student: Prediction, batch: Batch, drawn: Drawn, seen: PseudoLabels, mixed: Sequence[int]
    ) -> dict[str, MapPair]:
        """Student beside every teacher. The drawn one is not asked again."""
        pairs = {}
        for index, teacher in enumerate(self.teachers):
            own = seen if drawn == index else self.label(batch, index, regions=True, patches=False)
            pair = self._regions(student, batch, own, self.scales.factor(teacher.name), mixed)
            assert pair is not None
            pairs[teacher.name] = pair
        return pairs

    def _features(
        self, student: Prediction, batch: Batch, primary: PseudoLabels | None, mixed: Sequence[int]
    ) -> FeaturePair | None:
        """Feature taps on the region view; the reference sees the student's pixels before any change of colour.

        ``primary`` holds what the primary teacher has already said about these very pixels, if it was asked.
        """
        if "features" not in self.needs:
            return None
        images = paste(batch.images, batch.pasted) if mixed and batch.pasted is not None else batch.images
        if self._follows_primary and primary is not None:
            features = primary.features
        else:
            reference = self.reference or self.teachers[0].model
            with self._autocast(images.device):
                answer = reference(to_float(images))
            features = answer.features if isinstance(answer, Prediction) else answer
        return FeaturePair(student.features, features, (images.shape[-2], images.shape[-1]))

    def predict(self, student: StudentForward, batches: list[Batch]) -> list[Prediction]:
        """Runs the student on all images in one forward pass, so that batch statistics see them together; splits them again."""
        views = torch.cat([batch.student_images for batch in batches])
        cameras = (torch.cat([batch.cameras() for batch in batches]),) if self.cameras else ()
        with self._autocast(views.device):
            prediction = student(to_float(views), *cameras)
        return split_prediction(prediction, [len(batch) for batch in batches])

    def label(
        self,
        batch: Batch,
        teacher: Drawn,
        *,
        regions: bool | None = None,
        patches: bool | None = None,
        rows: Sequence[int] | None = None,
    ) -> PseudoLabels:
        """Returns what the drawn teachers answer for regions and patches.

        Args:
            batch: the images.
            teacher: the drawn teacher or teachers.
            regions, patches: whether these are wanted; None = if some term needs them.
            rows: the images whose patches are wanted; None = all.
        """
        if batch.depth is not None:  # what a teacher has stored of these images
            assert batch.space is not None
            return PseudoLabels(*usable(Prediction(batch.depth, batch.space, batch.valid), self.space))
        if regions is None:
            regions = bool(self.needs & {"regions", "teachers"}) or (self._follows_primary and teacher == 0)
        if patches is None:
            patches = "patches" in self.needs
        asked = (batch.images if regions else None, batch.patches if patches else None)
        chosen = range(len(batch)) if rows is None else rows
        with self._autocast(batch.images.device):
            return label_with(self.teachers, teacher, *asked, chosen, self.space, batch.cameras(), batch.patch_cameras())

    @property
    def reference(self) -> FeatureEncoder | Teacher | None:
        """The model of its own whose features are followed; None if they are the primary teacher's, or none are followed."""
        return self._reference[0]

    @property
    def _follows_primary(self) -> bool:
        return "features" in self.needs and self.reference is None

    def _autocast(self, device: torch.device) -> torch.autocast:
        return torch.autocast(device.type, dtype=self.autocast or torch.bfloat16, enabled=self.autocast is not None)

    def _stats(self, maps: list[Tensor], images: int) -> dict[str, Tensor]:
        depth = torch.cat(maps)
        median, mad = median_mad(depth)
        return {
            "median": median.sum() / images,
            "mad": mad.sum() / images,
            "nonpositive": (depth <= 0).float().mean((1, 2, 3)).sum() / images,
            "constant": scale_of(depth, None)[1].sum(),
        }


def _among(term: Term, counts: tuple[int, int]) -> int:
    """Returns the number of images of the iteration that the term's mean is over, out of ``counts`` unlabelled and labelled
    ones.
    """
    unlabelled = term.over_all_images or bool(term.needs - {"labels", "cameras", "scale"})
    labelled = term.over_all_images or "labels" in term.needs
    return counts[0] * unlabelled + counts[1] * labelled


def mixed_rows(boxes: Tensor | None, count: int) -> tuple[list[int], list[int]]:
    """Returns the indices of the images into which nothing was pasted, and of the others."""
    if boxes is None:
        return list(range(count)), []
    filled = ((boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])).tolist()
    return [i for i in range(count) if not filled[i]], [i for i in range(count) if filled[i]]


def by_region(pair: MapPair, boxes: Tensor, mixed: Sequence[int]) -> MapPair:
    """Returns the pair of a mixed batch, a row for each region: the kept part of every image, then what was pasted.

    The loss of a mixed image is the mean of its two regions' losses, weighted by area (Depth Anything, section 3.2):

        L = |M| / HW  L_M  +  |1 - M| / HW  L_(1-M)

    Every region is a row of its own with a mask: it is normalised by its own statistics, and no difference is taken across the
    border.
    """
    pasted = inside(boxes, (pair.pred.shape[-2], pair.pred.shape[-1]))
    own, other = list(range(len(boxes))), partners(len(boxes))
    device = pair.pred.device
    seen = torch.tensor([*own, *mixed], device=device)  # whose view the region is in
    source = torch.tensor([*own, *(other[i] for i in mixed)], device=device)  # whose pixels and target it shows
    mask = torch.cat([~pasted, pasted[list(mixed)]])
    return replace(
        pair,
        pred=pair.pred[seen],
        target=pair.target[source],
        mask=pair.mask[source] & mask.to(device),
        scale=pair.scale[source] if isinstance(pair.scale, Tensor) else pair.scale,
        weights=mask.float().mean((1, 2, 3)).to(device),
        intrinsics=None if pair.intrinsics is None else pair.intrinsics[source],
        frames=None if pair.frames is None else pair.frames[source],
    )
