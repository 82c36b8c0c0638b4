"""What a normalizer answers, where it must be careful, and what it claims to be invariant to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dadkit.interfaces import Normalizer
from dadkit.normalizers import map_loss
from dadkit.testing.check import check, fail, skip_unless
from dadkit.testing.maps import KINDS, Case, for_each_case, make_map, make_pair
from dadkit.testing.subject import Subject, is_close

CLAIMS = ("scale", "shift")


@check("normalizer", since=1)
def builds(subject: Subject) -> None:
    """Its options build something that can be called with prediction, target and mask."""
    if not isinstance(subject.shared, Normalizer):
        fail(f"it built a {type(subject.shared).__qualname__}", "Give it __call__(pred, target, mask=None)")


@check("normalizer", since=1, needs=["builds"])
def answers(subject: Subject) -> None:
    """Maps (B, 1, H, W) or (B, H, W) get three tensors (B, L, H, W): prediction, target, weight."""
    pred, target, mask = make_pair(0)
    for shape in ((2, 1, 20, 28), (2, 20, 28)):
        answer = subject.shared(pred.view(shape), target.view(shape), mask.view(shape))
        if not isinstance(answer, tuple | list) or len(answer) != 3:
            fail(f"it answered with {type(answer).__qualname__}", "Return (pred_n, target_n, weight)")
        shapes = [tuple(x.shape) for x in answer]
        if len(set(shapes)) > 1 or len(shapes[0]) != 4 or (shapes[0][0], *shapes[0][2:]) != (2, 20, 28):
            fail(f"maps {shape} got {', '.join(map(str, shapes))}", "Return three tensors (B, L, H, W), here (2, L, 20, 28)")


@check("normalizer", since=1, needs=["deterministic"])
def weights(subject: Subject) -> None:
    """Weights are not negative, sum over the levels to 1 or 0 at each pixel, to 0 outside the mask; no mask is a full one."""
    pred, target, mask = make_pair(1)
    weight = subject.shared(pred, target, mask)[2]
    total = weight.sum(1, keepdim=True)
    if (weight < 0).any() or not (((total - 1).abs() < 1e-4) | (total.abs() < 1e-4)).all():
        low, high = float(total.min()), float(total.max())
        fail(
            f"weights sum to between {low:.4g} and {high:.4g}", "Divide them by the number of levels that a pixel takes part in"
        )
    if (weight * ~mask).any():
        fail("pixels outside the mask have weight", "Set weight to 0 where mask is False")
    whole, full = subject.shared(pred, target, None), subject.shared(pred, target, torch.ones_like(mask))
    if not all(is_close(x, y, tolerance=1e-5) for x, y in zip(whole, full, strict=True)):
        fail("mask=None is not the same as a mask that is True everywhere", "Take None for all pixels")


@check("normalizer", since=1, needs=["weights"])
def degenerate_maps(subject: Subject) -> None:
    """Constant, tied, huge, tiny and empty maps give finite values wherever the weight is not 0."""
    generator = torch.Generator().manual_seed(0)
    for height, width in ((1, 1), (1, 9), (16, 20)):
        for kind in KINDS:
            target = make_map(kind, height, width, generator)[None, None]
            noise = torch.rand(target.shape, generator=generator)
            for name, pred in {"constant": torch.full_like(target, 0.3), "noisy": noise}.items():
                for mask in (torch.ones_like(target, dtype=torch.bool), torch.zeros_like(target, dtype=torch.bool)):
                    pred_n, target_n, weight = subject.shared(pred, target, mask)
                    used = (weight > 0).expand_as(pred_n)
                    if not (pred_n[used].isfinite().all() and target_n[used].isfinite().all()):
                        fail(
                            f"a {name} prediction and a '{kind}' target of {height} x {width} give values that are not finite",
                            "Guard the division: a map without deviation has weight 0, or a floor under its scale",
                        )


@check("normalizer", since=1, needs=["deterministic"])
def masked_values(subject: Subject) -> None:
    """Values outside the mask, NaN and infinity included, change nothing inside it."""
    pred, target, mask = make_pair(2)
    clean = _loss_per_pixel(subject.shared, pred, target, mask)
    for value in (float("nan"), float("inf"), -1e9):
        dirty = _loss_per_pixel(subject.shared, pred.where(mask, value), target.where(mask, value), mask)
        if not is_close(dirty.where(mask[:, 0], 0), clean.where(mask[:, 0], 0), tolerance=1e-5):
            fail(
                f"{value} outside the mask changes the answer inside it",
                "Replace masked values by torch.where before any sum, never by multiplying with the mask (0 * NaN is NaN)",
            )


@check("normalizer", since=1, needs=["answers"])
def gradients(subject: Subject) -> None:
    """The prediction gets a finite gradient that is not 0 everywhere; the target gets none."""
    pred, target, mask = make_pair(3)
    pred.requires_grad_()
    target.requires_grad_()
    loss = _loss_per_pixel(subject.shared, pred, target, mask).where(mask[:, 0], 0).sum()
    if not loss.requires_grad:
        fail("its answer carries no graph", "Compute pred_n from pred with differentiable operations, without detach")
    loss.backward()
    if pred.grad is None or not pred.grad.isfinite().all() or not pred.grad.any():
        fail(
            "the prediction's gradient is missing, zero or not finite",
            "Compute pred_n from pred with differentiable operations",
        )
    if target.grad is not None and target.grad.any():
        fail("the target gets a gradient", "Detach the target: it is a label")


@check("normalizer", since=1, needs=["weights", "gradients"])
def invariances(subject: Subject) -> None:
    """It is invariant to what it claims (scale, shift), of the prediction and of the target, on maps drawn by hypothesis."""
    claims = claimed(subject)

    def judge(case: Case) -> None:
        scale = case.scale if "scale" in claims else 1.0
        shift = case.shift if "shift" in claims else 0.0
        wanted = _loss_per_pixel(subject.shared, case.pred, case.target, case.mask)
        for changed in ("prediction", "target"):
            pred = case.pred * scale + shift if changed == "prediction" else case.pred
            target = case.target * scale + shift if changed == "target" else case.target
            found = _loss_per_pixel(subject.shared, pred, target, case.mask)
            # One pixel on a segment's border may change sides with the last digit; the map as a whole may not change.
            if not is_close(found.mean(), wanted.mean(), tolerance=1e-3):
                fail(
                    f"{scale:g} * {changed} + {shift:g} changes the loss from {float(wanted.mean()):.6g} to "
                    f"{float(found.mean()):.6g} ({case.text})",
                    "Take the claim back, or divide by a scale and subtract a location that follow the map",
                )

    for_each_case(judge)


@check("normalizer", since=1, needs=["deterministic"])
def fast_path(subject: Subject) -> None:
    """If it offers loss(…), that gives the same value and gradient as its normalised maps do."""
    normalizer = subject.shared
    skip_unless(hasattr(normalizer, "loss"), "it offers no loss of its own")
    found: list[Tensor] = []
    wanted: list[Tensor] = []
    for seed in range(3):
        pred, target, mask = make_pair(seed)
        for values, route in ((found, normalizer), (wanted, _ByCall(normalizer))):
            leaf = pred.clone().requires_grad_()
            loss = map_loss(route, leaf, target, mask)
            values += [loss.detach(), *torch.autograd.grad(loss, leaf)]
    for value, slow in zip(found, wanted, strict=True):
        if not is_close(value, slow, tolerance=1e-3):
            what = "value" if value.ndim == 0 else "gradient"
            fail(f"the {what} of loss(…) is not that of __call__", "One formula, two routes: correct the one that is wrong")


class _ByCall:
    """A normalizer without its fast path."""

    def __init__(self, normalizer: Normalizer) -> None:
        self._normalizer = normalizer

    def __call__(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
        return self._normalizer(pred, target, mask)


def claimed(subject: Subject) -> tuple[str, ...]:
    """What the component and the author claim; the check is skipped where that is nothing."""
    claims = tuple(dict.fromkeys((*getattr(subject.shared, "invariances", ()), *subject.invariances)))
    unknown = [claim for claim in claims if claim not in CLAIMS]
    if unknown:
        fail(f"it claims to be invariant to {', '.join(unknown)}", f"Claim {' or '.join(CLAIMS)}")
    skip_unless(bool(claims), "it claims none; set `invariances = ('scale', 'shift')` on it or in its test")
    return claims


def _loss_per_pixel(normalizer: Any, pred: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """(B, H, W)."""
    pred_n, target_n, weight = normalizer(pred, target, mask)
    loss: Tensor = (weight * (pred_n - target_n).abs().where(weight > 0, 0)).sum(1)
    return loss
