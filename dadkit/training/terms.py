"""The built-in terms of the training loss."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dadkit.interfaces import ModelSpec, Need, Normalizer, StepInputs, Term
from dadkit.losses import (
    channel_wise_loss,
    feature_alignment_loss,
    gradient_matching_loss,
    pairwise_loss,
    scale_anchor_loss,
    spatial_loss,
)
from dadkit.normalizers import Global, Hybrid, Identity, Local, local_global, map_loss
from dadkit.ops import Backend
from dadkit.spaces import Space
from dadkit.training.soundness import StageError

__all__ = [
    "Anchor",
    "FeatureTerm",
    "GradientTerm",
    "LossTerm",
    "MapTerm",
    "PatchTerm",
    "align_features",
    "to_grid",
]

Where = Literal["regions", "patches", "labels"]


class MapTerm(Term):
    """L1 between normalised maps: L_sc on regions, or the labelled term.

    Args:
        where: ``regions`` or ``labels``.
        normalizer: makes both maps comparable.
        trim: share of each image's largest losses that is dropped.
        backend: the implementation.
    """

    def __init__(self, where: Where, normalizer: Normalizer, trim: float = 0.0, backend: Backend = "auto") -> None:
        super().__init__()
        self.needs = _needs(
            where, scale=not isinstance(normalizer, Hybrid | Global | Local)
        )  # a plugin's may look at magnitudes
        self.raw = isinstance(normalizer, Identity)
        self.normalizer, self.trim, self.backend = normalizer, trim, backend

    def forward(self, inputs: StepInputs) -> Tensor:
        """Returns the mean over images."""
        pair = inputs.maps
        assert pair is not None
        maps = (pair.pred, pair.scaled_target, pair.mask)
        return pair.mean(partial(map_loss, self.normalizer, *maps, trim=self.trim, backend=self.backend))

    @torch.no_grad()
    def diagnostics(self, inputs: StepInputs) -> Mapping[str, Tensor]:
        """Returns ``near_share`` of true depth: the share of an image's loss that the nearest hundredth of its valid pixels
        carries, in [0, 1].

        About 0.01 where all pixels count alike. 0 for an image without loss.
        """
        if not inputs.labelled:
            return {}
        pair = inputs.maps
        assert pair is not None
        loss = map_loss(self.normalizer, pair.pred, pair.scaled_target, pair.mask, reduction="none", backend=self.backend)
        loss, mask = loss.flatten(1).where(pair.mask.flatten(1), 0), pair.mask.flatten(1)
        nearness = pair.target.flatten(1) * (1 if inputs.space is Space.DISPARITY else -1)
        order = nearness.where(mask, -torch.inf).argsort(1, descending=True)
        nearest = torch.arange(mask.shape[1], device=mask.device) < (mask.sum(1, keepdim=True) / 100).ceil()
        carried = (loss.gather(1, order) * nearest).sum(1)
        return {"near_share": carried / loss.sum(1).clamp(min=torch.finfo(loss.dtype).tiny)}


class PatchTerm(MapTerm):
    """L_lg: L1 between the student's one map and the teacher's patches, normalised per patch."""

    def __init__(self, normalizer: Normalizer, trim: float = 0.0, backend: Backend = "auto") -> None:
        super().__init__("patches", normalizer, trim, backend)

    def forward(self, inputs: StepInputs) -> Tensor:
        """Returns the mean over patches and images."""
        pair = inputs.patches
        assert pair is not None
        maps = (pair.pred, pair.scaled_target, pair.boxes, pair.mask)
        return local_global(self.normalizer, *maps, trim=self.trim, backend=self.backend)


class GradientTerm(Term):
    """L_grad: multi-scale gradient matching of regions, of patches or of labelled images.

    Args:
        where: which of them.
        scales: how many.
        values: match the gradients of values, not of normalised maps; for where the main term compares values too.
        backend: the implementation.
    """

    over_all_images = True

    def __init__(self, where: Where, scales: int = 4, *, values: bool = False, backend: Backend = "auto") -> None:
        super().__init__()
        self.needs = _needs(where)
        self.scales, self.values, self.backend = scales, values, backend

    def forward(self, inputs: StepInputs) -> Tensor:
        """Returns the mean over images."""
        pair = inputs.patches.sampled() if "patches" in self.needs and inputs.patches is not None else inputs.maps
        assert pair is not None
        maps = (pair.pred, pair.scaled_target if self.values else pair.target, pair.mask)
        match_slopes = partial(gradient_matching_loss, scales=self.scales, normalize=not self.values)
        return pair.mean(partial(match_slopes, *maps, backend=self.backend))


class Anchor(Term):
    """Holds the student's magnitude at its source's typical scale, which normalised terms leave open."""

    over_all_images = True
    auxiliary = True

    def __init__(self, where: Where) -> None:
        super().__init__()
        self.needs = _needs(where, scale=True)

    def forward(self, inputs: StepInputs) -> Tensor:
        """Returns the mean over images."""
        pair = inputs.maps
        assert pair is not None
        maps = (pair.pred, pair.target, pair.mask)
        return pair.mean(partial(scale_anchor_loss, *maps, target_scale=1.0, student_scale=pair.scale))


class LossTerm(Term):
    """A registered loss ``(pred, target, mask) -> scalar`` on maps (B, 1, H, W) as a term.

    Args:
        loss: a mean over images. It may also take the keywords ``space``, ``intrinsics`` and ``frames``, and have
            ``check_space(space)``.
        on: ``teachers``: pseudo-labels only, ``labels``: true depth only, ``both``.
    """

    over_all_images = True

    def __init__(self, loss: Callable[..., Tensor], on: Literal["both", "teachers", "labels"] = "both") -> None:
        super().__init__()
        self.loss = loss
        self._keywords = set(inspect.signature(loss.forward if isinstance(loss, nn.Module) else loss).parameters)
        needs: set[Need] = {"scale"}
        if on != "labels":
            needs.add("regions")
        if on != "teachers":
            needs.add("labels")
        if self._keywords & {"intrinsics", "frames"}:
            needs.add("cameras")
        self.needs = frozenset(needs)

    def forward(self, inputs: StepInputs) -> Tensor:
        """Returns the mean over images. The loss is called once for each region, as it answers with one number."""
        pair = inputs.maps
        assert pair is not None

        def of(rows: slice) -> Tensor:
            cameras = {"intrinsics": pair.intrinsics, "frames": pair.frames}
            known = {"space": str(inputs.space), **{name: None if x is None else x[rows] for name, x in cameras.items()}}
            wanted = {name: value for name, value in known.items() if name in self._keywords}
            return self.loss(pair.pred[rows], pair.scaled_target[rows], pair.mask[rows], **wanted)

        return pair.mean_of_rows(of)

    def check(self, student: ModelSpec, teachers: Sequence[ModelSpec]) -> Iterator[str]:
        """What the loss's own ``check_space`` says."""
        try:
            getattr(self.loss, "check_space", lambda space: None)(str(student.space))
        except ValueError as error:
            yield str(error)


FeatureLoss = Literal["cosine", "channel-kl", "channel-mse", "spatial-kl", "pairwise"]


class FeatureTerm(Term):
    """L_feat: the student's features against those of a frozen reference.

    Args:
        student_tap, reference_tap: which features.
        loss: ``cosine`` (Depth Anything), or one of Robust Lightweight's ablation.
        cos_threshold: margin of ``cosine``.
        tau: temperature of the distributions.
        widths: of both taps, if known; where they differ, a linear adapter on the student's side is learned.
    """

    needs = frozenset({"features"})

    def __init__(
        self,
        student_tap: str = "tokens",
        reference_tap: str = "tokens",
        loss: FeatureLoss = "cosine",
        cos_threshold: float = 0.85,
        tau: float = 1.0,
        widths: tuple[int, int] = (0, 0),
    ) -> None:
        super().__init__()
        self.taps, self.loss, self.cos_threshold, self.tau = (student_tap, reference_tap), loss, cos_threshold, tau
        # Similarities between places need no equal widths.
        self.adapter = nn.Linear(*widths) if widths[0] != widths[1] and loss != "pairwise" else None

    def forward(self, inputs: StepInputs) -> Tensor:
        """Returns the mean over images."""
        assert inputs.features is not None
        pair = inputs.features
        return self.compare(pair.student, pair.reference, pair.view)

    def compare(self, student: Mapping[str, Tensor], reference: Mapping[str, Tensor], view: tuple[int, int]) -> Tensor:
        """Returns the loss of the student's features against the reference's, seen on views of (height, width).

        Raises:
            StageError: the loss compares places, and the reference's features have only one.
        """
        tokens = align_features(student[self.taps[0]], reference[self.taps[1]], view, self.adapter)
        if self.loss == "cosine":
            return feature_alignment_loss(*tokens, cos_threshold=self.cos_threshold)
        own, wanted = (to_grid(part, view) for part in tokens)
        if self.loss == "spatial-kl":
            return spatial_loss(own, wanted, tau=self.tau)
        if own.shape[-2:].numel() == 1:
            raise StageError(
                f"losses.feature.loss: {self.loss} compares the places of a feature map, but the tap '{self.taps[1]}' of "
                f"the reference has a single one on views of {view[0]} x {view[1]} pixels, so the loss would always be 0; name "
                "a finer tap (losses.feature.student_tap, reference_tap), take larger views, or loss: spatial-kl or cosine"
            )
        if self.loss == "pairwise":
            return pairwise_loss(own, wanted)
        return channel_wise_loss(own, wanted, tau=self.tau, divergence="kl" if self.loss == "channel-kl" else "mse")


def align_features(
    student: Tensor, reference: Tensor, view: tuple[int, int], adapter: nn.Linear | None
) -> tuple[Tensor, Tensor]:
    """Returns both taps as tokens (B, N', C') on the reference's grid, in float32 at least.

    Args:
        student: tokens (B, N, C) or a map (B, C, h, w); gets gradients.
        reference: the same of any other grid and width.
        view: (height, width) of the image both saw, whose aspect ratio tells the grid of bare tokens.
        adapter: brings the student's width to the reference's.
    """
    target = to_grid(_at_least_float32(reference.detach()), view)
    grid = to_grid(_at_least_float32(student), view)
    if grid.shape[-2:] != target.shape[-2:]:
        grid = F.interpolate(grid, target.shape[-2:], mode="bilinear", align_corners=False)
    tokens = grid.flatten(2).transpose(1, 2)
    return tokens if adapter is None else adapter(tokens), target.flatten(2).transpose(1, 2)


def to_grid(features: Tensor, view: tuple[int, int]) -> Tensor:
    """Returns a feature tap as a map (B, C, h, w). Tokens (B, N, C) get the grid of N cells whose aspect ratio is nearest the
    view's.

    Raises:
        ValueError: the tap is neither tokens nor a map, or its N fits no grid like the view (a class token among the patches).
    """
    if features.ndim == 4:
        return features
    if features.ndim != 3:
        raise ValueError(f"a feature tap is tokens (B, N, C) or a map (B, C, h, w), got {tuple(features.shape)}")
    count = features.shape[1]
    aspect = view[0] / view[1]
    rows = min((r for r in range(1, count + 1) if count % r == 0), key=lambda r: abs(math.log(r * r / count / aspect)))
    columns = count // rows
    # Patches are square, so the grid's aspect differs from the view's by rounding only.
    if not 0.5 < rows / columns / aspect < 2:
        raise ValueError(
            f"{count} tokens form no grid like a {view[0]} x {view[1]} view; a tap must hold patch tokens only, row by row, "
            "without a class token"
        )
    return features.transpose(1, 2).unflatten(2, (rows, columns))


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _needs(where: Where, *, scale: bool = False) -> frozenset[Need]:
    return frozenset((where, "scale") if scale else (where,))
