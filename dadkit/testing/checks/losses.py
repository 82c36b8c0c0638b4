"""What a loss answers, where it must be careful, and what it claims to be invariant to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dadkit.testing.check import check, fail, skip_unless
from dadkit.testing.checks.normalizers import claimed
from dadkit.testing.maps import Case, for_each_case, make_pair
from dadkit.testing.subject import Subject, is_close, spread


@check("loss", since=1)
def builds(subject: Subject) -> None:
    """Its options build something that can be called with prediction, target and mask."""
    if not callable(subject.shared):
        fail(f"it built a {type(subject.shared).__qualname__}", "Give it forward(pred, target, mask), or __call__")


@check("loss", since=1, needs=["builds"])
def answers(subject: Subject) -> None:
    """Maps (B, 1, H, W) and a bool mask get one finite floating-point number, with or without a mask."""
    pred, target, mask = make_pair(0)
    for given in (mask, None):
        value = subject.shared(pred, target, given)
        if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
            what = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__qualname__
            fail(f"it answered with {what}", "Return one number: the mean over pixels, then over images")
        if not value.isfinite():
            fail(f"it answered {float(value)} to ordinary maps", "Guard divisions and logarithms")


@check("loss", since=1, needs=["deterministic"])
def no_mask(subject: Subject) -> None:
    """No mask is the same as a mask that is True everywhere."""
    pred, target, mask = make_pair(0)
    whole, full = subject.shared(pred, target, None), subject.shared(pred, target, torch.ones_like(mask))
    if not is_close(full, whole, tolerance=1e-4):
        fail(f"None gives {float(whole):.6g}, a full mask {float(full):.6g}", "Take None for all pixels")


@check("loss", since=1, needs=["answers"])
def empty_mask(subject: Subject) -> None:
    """Without a valid pixel the loss is exactly 0, and so is its gradient."""
    pred, target, mask = make_pair(0)
    pred.requires_grad_()
    value = subject.shared(pred, target, torch.zeros_like(mask))
    if value != 0:
        fail(f"without a valid pixel it is {value.item()}", "Divide by max(count, 1), and give 0 times the prediction's sum")
    if not value.requires_grad:
        fail("without a valid pixel it has no graph", "Return a differentiable 0, so that training can go on")
    (gradient,) = torch.autograd.grad(value, pred, allow_unused=True)
    if gradient is not None and (gradient != 0).any():
        fail("without a valid pixel its gradient is not 0", "Take masked pixels out with torch.where before any arithmetic")


@check("loss", since=1, needs=["deterministic"])
def masked_values(subject: Subject) -> None:
    """Values outside the mask, NaN and infinity included, change neither the value nor any gradient."""
    pred, target, mask = make_pair(1)
    wanted = _value_and_gradient(subject.shared, pred, target, mask)
    for value in (float("nan"), float("inf"), -1e9):
        found = _value_and_gradient(subject.shared, pred.where(mask, value), target.where(mask, value), mask)
        if not all(is_close(x, y, tolerance=1e-4) for x, y in zip(found, wanted, strict=True)):
            fail(
                f"{value} outside the mask changes the loss or its gradient",
                "Replace masked values by torch.where before any arithmetic; multiplying with the mask leaves NaN (0 * NaN)",
            )


@check("loss", since=1, needs=["deterministic"])
def gradient_is_true(subject: Subject) -> None:
    """In float64 the gradient is the slope of the value along random directions."""
    pred, target, mask = make_pair(2, batch=1, height=9, width=11, dtype=torch.float64)
    _, gradient = _value_and_gradient(subject.shared, pred, target, mask)
    generator = torch.Generator().manual_seed(0)
    step = 1e-6
    for _ in range(4):
        direction = torch.randn(pred.shape, generator=generator, dtype=torch.float64)
        with torch.no_grad():
            ahead, behind = (subject.shared(pred + sign * step * direction, target, mask) for sign in (1, -1))
        slope, claim = float(ahead - behind) / (2 * step), float((gradient * direction).sum())
        if abs(slope - claim) > 1e-3 * max(abs(slope), spread(gradient)):
            fail(
                f"along a random direction the value changes by {slope:.6g}, the gradient says {claim:.6g}",
                "Look for detach, in-place edits or a hand-written backward that is wrong; compute in the input's dtype",
            )


@check("loss", since=1, needs=["deterministic"])
def precisions(subject: Subject) -> None:
    """Maps of the same values in float64, float32 and bfloat16 get the same loss, to the digits of a bfloat16."""
    pred, target, mask = make_pair(3)
    pred, target = pred.bfloat16(), target.bfloat16()
    wanted = float(subject.shared(pred.double(), target.double(), mask))
    for dtype in (torch.float32, torch.bfloat16):
        found = float(subject.shared(pred.to(dtype), target.to(dtype), mask))
        if not abs(found - wanted) <= 2e-2 * abs(wanted) + 1e-6:
            fail(
                f"float64 maps give {wanted:.6g}, the same in {dtype} {found:.6g}",
                "Compute in float32: pred.float(), target.float()",
            )


@check("loss", since=1, needs=["deterministic"])
def awkward_shapes(subject: Subject) -> None:
    """One pixel, one row and non-contiguous maps are taken, and memory layout does not matter."""
    for height, width in ((1, 1), (1, 13), (13, 1)):
        pred, target, mask = make_pair(4, height=height, width=width)
        value = subject.shared(pred, target, torch.ones_like(mask))
        if not value.isfinite():
            fail(
                f"maps of {height} x {width} give {float(value)}",
                "Guard divisions: such maps have no deviation and no neighbours",
            )
    pred, target, mask = make_pair(4)
    wanted = subject.shared(pred, target, mask)
    found = subject.shared(*(x.transpose(2, 3).contiguous().transpose(2, 3) for x in (pred, target, mask)))
    if not is_close(found, wanted, tolerance=1e-4):
        fail(
            f"transposed storage changes the loss from {float(wanted):.6g} to {float(found):.6g}",
            "Use reshape, or call contiguous() before a kernel of your own",
        )


@check("loss", since=1, needs=["deterministic"])
def invariances(subject: Subject) -> None:
    """It is invariant to what it claims (scale, shift), of the prediction and of the target, on maps drawn by hypothesis."""
    claims = claimed(subject)

    def judge(case: Case) -> None:
        scale = case.scale if "scale" in claims else 1.0
        shift = case.shift if "shift" in claims else 0.0
        wanted = float(subject.shared(case.pred, case.target, case.mask))
        for changed in ("prediction", "target"):
            pred = case.pred * scale + shift if changed == "prediction" else case.pred
            target = case.target * scale + shift if changed == "target" else case.target
            found = float(subject.shared(pred, target, case.mask))
            if not abs(found - wanted) <= 1e-3 * max(abs(wanted), 1e-3):
                fail(
                    f"{scale:g} * {changed} + {shift:g} changes the loss from {wanted:.6g} to {found:.6g} ({case.text})",
                    "Take the claim back, or divide by a scale and subtract a location that follow the map",
                )

    for_each_case(judge)


@check("loss", since=1, needs=["deterministic"])
def backends(subject: Subject) -> None:
    """If it has a `backend` option, every backend that runs gives the reference's value and gradient."""
    from inspect import signature

    factory = subject.factory if subject.component is None else _target(subject)
    skip_unless("backend" in signature(factory).parameters, "it has no option `backend`")
    reference = subject.fresh(backend="reference")
    for seed in range(3):
        pred, target, mask = make_pair(seed)
        wanted = _value_and_gradient(reference, pred, target, mask)
        for name in ("auto", "fused"):
            try:
                found = _value_and_gradient(subject.fresh(backend=name), pred, target, mask)
            except RuntimeError:  # it is not built here, and says so
                continue
            if not all(is_close(x, y, tolerance=1e-3) for x, y in zip(found, wanted, strict=True)):
                fail(
                    f"backend='{name}' does not agree with the reference",
                    "The reference is the specification: correct the other",
                )


def _target(subject: Subject) -> Any:
    assert subject.component is not None
    assert subject.registry is not None
    return subject.registry.load(subject.component)


def _value_and_gradient(loss: Any, pred: Tensor, target: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    leaf = pred.clone().requires_grad_()
    value = loss(leaf, target, mask)
    (gradient,) = torch.autograd.grad(value, leaf)
    return value.detach(), gradient
