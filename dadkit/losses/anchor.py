"""The scale anchor: what holds a student's magnitude in place when every other loss is blind to it."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from dadkit.losses.inputs import check_reduction, whole_maps
from dadkit.losses.scale import ScaleMeter, scale_of
from dadkit.ops import Backend
from dadkit.ops.reference import Reduction
from dadkit.ops.reference.reduction import over_images

__all__ = ["ScaleAnchorLoss", "scale_anchor_loss"]


def scale_anchor_loss(
    pred: Tensor,
    target: Tensor,
    mask: Tensor | None = None,
    *,
    target_scale: float | Tensor,
    student_scale: float | Tensor = 1.0,
    reduction: Reduction = "mean",
    backend: Backend = "auto",
) -> Tensor:
    """Returns how far the student's magnitude is from the one that the teacher's map asks for (not from a paper).

        L_i = | log s(pred_i) - log( student_scale * s(target_i) / target_scale ) |,    s = mean |x - median(x)|

    Normalised losses are blind to the student's scale, and under noisy labels it runs away; this pins it to ``student_scale``
    times what the teacher says, measured in the teacher's typical deviation, so that teachers of different ranges agree. Weigh
    it by 0.1.

    Args:
        pred: (B, H, W) or (B, 1, H, W), floating point; gets the gradient. Whole maps, not patches.
        target: same shape; gets no gradient.
        mask: bool of the same shape, True = valid; None = all valid.
        target_scale: c_T, the teacher's typical s, above 0: a number or a tensor of shape () or (B,).
        student_scale: gamma, the student's wanted typical s, above 0: a number or a tensor of shape () or (B,).
        reduction: ``"mean"``: over the batch, a skipped image counting 0; ``"image"``: (B,); ``"pixel"``: images weighted by
            their numbers of valid pixels; ``"none"``: each image's loss at each of its valid pixels, in pred's shape.
        backend: ``"auto"``, ``"fused"`` or ``"reference"``.

    Returns:
        float32 (float64 if an input is float64); the gradient has pred's dtype.

    Invariances (float64 to rounding): to a shift of pred and of target; multiplying pred and student_scale, or target and
    target_scale, by one a > 0. The gradient g has <g, 1> = 0 and, per image, <g, pred> = sign(s(pred) - wanted).

    Degenerate cases: images without valid pixels and constant maps on either side are skipped: 0, no gradient. Non-finite
    values as in :func:`hybrid_norm_loss`.

    Raises:
        ValueError: wrong shapes, dtypes or options; a scale given as a number that is not above 0.

    Example:
        >>> target = torch.tensor([[[0.0, 1.0, 2.0, 3.0]]])  # its deviation is 1
        >>> round(scale_anchor_loss(4 * target, target, target_scale=1.0).item(), 4)  # log 4
        1.3863
    """
    check_reduction(reduction)
    pair = _measure(pred, target, mask, backend)
    wanted = pair.log_target - _log("target_scale", target_scale) + _log("student_scale", student_scale)
    return _reduce(pair, wanted, reduction, pred.shape)


class ScaleAnchorLoss(nn.Module):
    """:func:`scale_anchor_loss` that measures the scales itself and remembers them in its state.

    c_T is the median of s(target) over the first ``warmup_maps`` maps of teacher T, then frozen. While they come in, the median
    of those seen so far is used, the present ones included. Maps are taken in while the module is in training mode; constant
    maps are not.

    Args:
        teachers: how many teachers there are.
        warmup_maps: how many maps of each teacher are measured.
        pretrained_student: False: the student starts from a random head and is held at a median deviation of 1.
            True: it is held at its own, the median over the first ``warmup_maps`` maps of any teacher.
        reduction, backend: as in :func:`scale_anchor_loss`.

    State: the measured deviations and their numbers are buffers, so ``state_dict`` brings all of it back exactly. Every rank of
    a distributed run measures the maps it sees; to anchor all of them to one scale, broadcast the buffers once they are frozen.

    Raises:
        ValueError: ``teachers`` or ``warmup_maps`` under 1.

    Example:
        >>> anchor = ScaleAnchorLoss(teachers=2)
        >>> anchor(torch.rand(2, 8, 8), torch.rand(2, 8, 8), teacher=1).shape
        torch.Size([])
    """

    def __init__(
        self,
        *,
        teachers: int = 1,
        warmup_maps: int = 64,
        pretrained_student: bool = False,
        reduction: Reduction = "mean",
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if teachers < 1 or warmup_maps < 1:
            raise ValueError(f"teachers and warmup_maps must be at least 1, got {teachers} and {warmup_maps}")
        check_reduction(reduction)
        self.reduction: Reduction = reduction
        self.backend: Backend = backend
        self.pretrained_student = pretrained_student
        self.targets = nn.ModuleList(ScaleMeter(warmup_maps) for _ in range(teachers))
        self.student = ScaleMeter(warmup_maps)

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None, *, teacher: int = 0) -> Tensor:
        """Returns the loss; 0 before the first usable map of ``teacher`` has been seen.

        Args:
            pred, target, mask: as in :func:`scale_anchor_loss`.
            teacher: which teacher the target comes from.
        """
        pair = _measure(pred, target, mask, self.backend)
        if self.training:
            self._take(pair, teacher)
        meter = self._meter(teacher)
        known = meter.count > 0
        wanted = pair.log_target - meter.log_value() + self.student_scale().log()
        return _reduce(pair._replace(usable=pair.usable & known), wanted, self.reduction, pred.shape)

    @torch.no_grad()
    def observe(self, pred: Tensor, target: Tensor, mask: Tensor | None = None, *, teacher: int = 0) -> None:
        """Measure without a loss: for runs that need c_T but no anchor. Arguments as in :meth:`forward`."""
        self._take(_measure(pred, target, mask, self.backend), teacher)

    def target_scale(self, teacher: int = 0) -> Tensor:
        """c_T, a tensor of shape (): the median deviation of ``teacher``'s maps; 1 before the first one."""
        return self._meter(teacher).value()

    def student_scale(self) -> Tensor:
        """gamma, a tensor of shape (): 1, or the pretrained student's own median deviation."""
        return self.student.value() if self.pretrained_student else torch.ones_like(self.student.logs[0])

    def _take(self, pair: _Pair, teacher: int) -> None:
        self._meter(teacher).append(pair.log_target, pair.usable & pair.log_pred.isfinite())
        self.student.append(pair.log_pred, pair.usable & pair.log_target.isfinite())

    def _meter(self, teacher: int) -> ScaleMeter:
        if not 0 <= teacher < len(self.targets):
            raise ValueError(f"teacher must be an index below {len(self.targets)}, got {teacher}")
        meter = self.targets[teacher]
        assert isinstance(meter, ScaleMeter)
        return meter


class _Pair(NamedTuple):
    """The measured logarithms of one batch: (B,) each; ``valid`` is (B, H, W)."""

    log_pred: Tensor
    log_target: Tensor
    usable: Tensor
    valid: Tensor


def _measure(pred: Tensor, target: Tensor, mask: Tensor | None, backend: Backend) -> _Pair:
    p, d, m = whole_maps(pred, target, mask)
    d = d.detach()
    valid = torch.ones_like(d, dtype=torch.bool) if m is None else m
    (s_p, flat_p), (s_d, flat_d) = scale_of(p, m, backend), scale_of(d, m, backend)
    usable = ~(flat_p | flat_d)
    return _Pair(torch.where(usable, s_p, 1).log(), torch.where(usable, s_d, 1).log(), usable, valid)


def _reduce(pair: _Pair, wanted: Tensor, reduction: Reduction, shape: torch.Size) -> Tensor:
    image = torch.where(pair.usable, (pair.log_pred - wanted).abs(), 0)
    if reduction in ("mean", "image"):
        return over_images(image, reduction)
    pixels = torch.where(pair.valid, image[:, None, None], 0)
    if reduction == "none":
        return pixels.view(shape)
    return pixels.sum() / (pair.valid & pair.usable[:, None, None]).sum().clamp(min=1)


def _log(name: str, scale: float | Tensor) -> float | Tensor:
    if isinstance(scale, Tensor):
        return scale.detach().log()
    if not scale > 0:
        raise ValueError(f"{name} must be above 0, got {scale}")
    return math.log(scale)
