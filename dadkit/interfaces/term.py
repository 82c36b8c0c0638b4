"""Terms of the training loss: the interface, what a term is given, and the interface of normalizers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from dadkit.spaces import Space

if TYPE_CHECKING:
    from dadkit.interfaces.spec import ModelSpec

__all__ = [
    "FeaturePair",
    "MapPair",
    "Need",
    "Normalizer",
    "PatchPair",
    "StepInputs",
    "Term",
]


@runtime_checkable
class Normalizer(Protocol):
    """Maps prediction and target to comparable values.

    A normalizer may also offer ``loss(pred, target, mask, *, reduction, trim, backend) -> Tensor``, the fused path of
    ``(weight * |pred_n - target_n|)`` summed over levels, and ``local_global(pred, target, boxes, mask, *, pred_mask,
    reduction, trim, backend)``, the same between a map and its patches. Without them ``dadkit.normalizers.map_loss`` and
    ``local_global`` take the mean from ``__call__``'s answer. A method may leave out keywords that it does not know; then it is
    not called where they matter, and a run with ``backend: fused`` is refused.
    """

    def __call__(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Normalise both maps.

        Args:
            pred: (B, 1, H, W) or (B, H, W), the student's map; gets gradients.
            target: same shape, the teacher's map; its values cut the segments.
            mask: bool of the same shape, True = valid; None = all valid.

        Returns:
            ``(pred_n, target_n, weight)``, each (B, L, H, W) for L levels. ``weight`` is 0 where a pixel takes no part and
            sums over L to 1 where it does, so that ``(weight * |pred_n - target_n|).sum(1)`` is the loss per pixel.
        """
        ...


Need = Literal["regions", "patches", "teachers", "features", "labels", "cameras", "scale"]
"""What a term may ask of a step:

* ``regions``: the drawn teacher's maps of what the student sees (``inputs.maps``);
* ``patches``: the drawn teacher's native-detail patches (``inputs.patches``);
* ``teachers``: the regions of every teacher, not of the drawn one alone (``inputs.teachers``);
* ``features``: feature taps of student and reference (``inputs.features``);
* ``labels``: true depth (``inputs.maps`` of labelled images);
* ``cameras``: intrinsics and frames beside the maps, where the data know them;
* ``scale``: magnitudes matter, so each source's typical scale is measured before the first iteration.
"""


@dataclass(frozen=True, eq=False)
class MapPair:
    """The student's maps beside their targets, a row each.

    Attributes:
        pred: (R, 1, H, W) float32, the student's maps, with gradient.
        target: (R, 1, H, W) float32, in the student's space, at its source's own scale.
        mask: (R, 1, H, W) bool, True where the target is known and finite.
        images: number of images that the rows come from: R, unless CutMix cut images into regions, or the rows are patches.
        scale: factor that brings the target to the student's magnitude, a number or (R,); 1 unless a term needs ``scale``.
        weights: (R,) the rows' shares of their images where those are cut into regions, else None.
        intrinsics, frames: (R, 3, 3) of the targets' images, or None; as in ``dadkit.data.Batch``.
    """

    pred: Tensor
    target: Tensor
    mask: Tensor
    images: int
    scale: float | Tensor = 1.0
    weights: Tensor | None = None
    intrinsics: Tensor | None = None
    frames: Tensor | None = None

    @property
    def scaled_target(self) -> Tensor:
        """The target at the student's magnitude, for terms that compare values."""
        return _scaled(self.target, self.scale)

    def mean(self, loss: Callable[..., Tensor]) -> Tensor:
        """Mean over images of a loss that takes the keyword ``reduction``, ``"mean"`` or ``"image"``. Regions count by area."""
        if self.weights is None:
            return loss(reduction="mean")
        return (self.weights * loss(reduction="image")).sum() / self.images

    def mean_of_rows(self, loss: Callable[[slice], Tensor]) -> Tensor:
        """As :meth:`mean`, of a loss that answers with one number for a slice of rows. Regions are given to it one by one."""
        if self.weights is None:
            return loss(slice(None))
        rows = torch.stack([loss(slice(row, row + 1)) for row in range(len(self.pred))])
        return (self.weights * rows).sum() / self.images


@dataclass(frozen=True, eq=False)
class PatchPair:
    """The student's whole map beside the teacher's native-detail patches of it.

    Attributes:
        pred: (B, 1, H, W) the student's maps, with gradient.
        target, mask: (B, N, h, w) the teacher's patches, and where they are valid.
        boxes: (B, N, 4) the patches in fractional pixels of ``pred``: x0, y0, x1, y1.
        scale: as in :class:`MapPair`, a number or (B,).
    """

    pred: Tensor
    target: Tensor
    mask: Tensor
    boxes: Tensor
    scale: float | Tensor = 1.0

    @property
    def images(self) -> int:
        """Number of images."""
        return len(self.pred)

    @property
    def scaled_target(self) -> Tensor:
        """The target at the student's magnitude."""
        return _scaled(self.target, self.scale)

    def sampled(self) -> MapPair:
        """Returns every patch as a map of its own, (B N, 1, h, w): the student's map is read at the patches' pixels."""
        from dadkit.ops.reference import sample_boxes

        crops = sample_boxes(self.pred.squeeze(1), self.boxes, (self.target.shape[-2], self.target.shape[-1]))
        pred, target, mask = (x.flatten(0, 1).unsqueeze(1) for x in (crops, self.target, self.mask))
        scale = self.scale.repeat_interleave(self.target.shape[1]) if isinstance(self.scale, Tensor) else self.scale
        return MapPair(pred, target, mask, self.images, scale)


@dataclass(frozen=True, eq=False)
class FeaturePair:
    """Feature taps of student and reference on the same images.

    Attributes:
        student: name -> tokens (B, N, C) or a map (B, C, h, w), with gradient.
        reference: the same of the frozen reference, which saw clean pixels.
        view: (height, width) of the images.
    """

    student: Mapping[str, Tensor]
    reference: Mapping[str, Tensor]
    view: tuple[int, int]


@dataclass(frozen=True, eq=False)
class StepInputs:
    """What a term is given: images of one kind, unlabelled or labelled, of one (micro-)batch.

    Only what some term of the stage needs is there.

    Attributes:
        space: the student's space, which all maps are in.
        images: how many images there are.
        labelled: True if ``maps`` hold true depth.
        maps: the student's maps beside the drawn teacher's, or beside true depth.
        patches: the student's maps beside the drawn teacher's patches, without images that CutMix mixed.
        features: feature taps of student and reference.
        teachers: name of each teacher -> the student's maps beside its own.
    """

    space: Space
    images: int
    labelled: bool = False
    maps: MapPair | None = None
    patches: PatchPair | None = None
    features: FeaturePair | None = None
    teachers: Mapping[str, MapPair] = field(default_factory=dict)

    def serves(self, needs: frozenset[Need]) -> bool:
        """True if a term with these needs has something to look at here."""
        if self.labelled:
            return "labels" in needs
        wanted = [name for name in _UNLABELLED if name in needs]
        found = {"regions": self.maps, "patches": self.patches, "features": self.features, "teachers": self.teachers or None}
        return bool(wanted) and all(found[name] is not None for name in wanted)

    def looked_at(self, needs: frozenset[Need]) -> int:
        """Returns the number of images that a term with these needs looks at. Patches leave out images that CutMix mixed."""
        return self.patches.images if self.patches is not None and "patches" in needs and not self.labelled else self.images


class Term(nn.Module, ABC):
    """One addend of the training loss.

    A term says what it ``needs``. A step computes that once for all terms, and calls each term with it: once for the unlabelled
    images of a (micro-)batch if it needs something of them, and once for the labelled ones if it needs ``labels``. Parameters
    of a term are trained with the student's decoder and saved in checkpoints; they are no part of the result.

    To write one, set :attr:`needs` and implement :meth:`forward`::

        class RawL1(Term):
            needs = frozenset({"regions", "labels", "scale"})

            def forward(self, inputs):
                pair = inputs.maps
                return pair.mean(partial(l1_loss, pair.pred, pair.scaled_target, pair.mask))
    """

    needs: frozenset[Need] = frozenset()
    """What the step computes for this term; see :data:`Need`."""
    raw: bool = False
    """True if the term compares the values of maps with no normalisation, in which case teachers must share one range."""
    over_all_images: bool = False
    """True if the value is a mean over all images of an iteration, where those that the term does not look at count as 0; False
    if it is one over the kinds of images that the term looks at."""
    auxiliary: bool = False
    """True if the term teaches nothing by itself, as a regulariser; a stage then needs other terms."""

    @abstractmethod
    def forward(self, inputs: StepInputs) -> Tensor:
        """Returns the term's value.

        Args:
            inputs: images of one kind, with everything that ``needs`` names for this kind.

        Returns:
            A scalar with gradient: the mean over the images that the term looks at. The step weighs it by their share of the
            iteration, so that gradients accumulate to those of the whole batch.
        """

    def diagnostics(self, inputs: StepInputs) -> Mapping[str, Tensor]:
        """Returns numbers that a person should see in the log beside the value; none by default.

        Called at log intervals, on the same inputs as the term itself.

        Args:
            inputs: images of one kind.

        Returns:
            Name -> one number an image, (B,) without gradient. The log shows the mean over the images that the term looks at
            as ``student/NAME``.
        """
        return {}

    def check(self, student: ModelSpec, teachers: Sequence[ModelSpec]) -> Iterator[str]:
        """Reasons why the term cannot work with these models, a sentence each; none if it can. Called before training.

        Args:
            student: what the student declares.
            teachers: what the teachers declare; the first is the primary one.
        """
        yield from ()


_UNLABELLED = ("regions", "patches", "features", "teachers")


def _scaled(target: Tensor, scale: float | Tensor) -> Tensor:
    if isinstance(scale, Tensor):
        return target * scale[:, None, None, None]
    return target if scale == 1.0 else target * scale
