"""Inputs that fit a kind, and what a component of that kind answers to them, as a flat list of tensors."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dadkit.data import SampleError
from dadkit.testing.maps import make_pair
from dadkit.testing.subject import Subject

__all__ = ["IMAGE_SIZES", "answers_to", "exercise", "images", "inputs_for", "is_close", "legal_size", "spread"]

IMAGE_SIZES = ((480, 640), (640, 480), (900, 700), (1200, 1600), (333, 517))
"""Heights and widths of photographs that context samplers are asked about."""

_LEAST_SIDE = 48


def legal_size(subject: Subject) -> tuple[int, int]:
    """A small height and width that the network takes, different from each other so that nothing can be transposed."""
    if subject.size is not None:
        return subject.size
    multiple = subject.shared.spec.size_multiple
    side = max(1, -(-_LEAST_SIDE // multiple)) * multiple
    return side, side + max(multiple, 16) // multiple * multiple


def images(size: tuple[int, int], *, batch: int = 2, seed: int = 0) -> Tensor:
    """(B, 3, H, W) in [0, 1]: smooth pictures with some noise, each of its own brightness."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(batch, 3, 4, 5, generator=generator)
    smooth = torch.nn.functional.interpolate(coarse, size, mode="bilinear", align_corners=False)
    gain = torch.linspace(0.5, 0.9, batch).view(-1, 1, 1, 1)
    return (gain * smooth + 0.1 * torch.rand(smooth.shape, generator=generator)).clamp(0, 1)


def inputs_for(subject: Subject, *, seed: int = 0) -> tuple[Tensor, ...]:
    """What a component of the subject's kind is called with: images, or a prediction, a target and a mask."""
    if subject.kind in {"teacher", "student", "encoder"}:
        return (images(legal_size(subject), batch=3, seed=seed),)
    return make_pair(seed, batch=3)


def answers_to(subject: Subject, instance: Any, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """What ``instance`` answers, in a fixed order, without gradient; models in eval mode."""
    if isinstance(instance, torch.nn.Module):
        instance.eval()
    with torch.no_grad():
        answer = instance(*inputs)
    if subject.kind in {"teacher", "student"}:
        return [answer.depth, *(answer.features[name] for name in sorted(answer.features))]
    if subject.kind == "encoder":
        return [answer[name] for name in sorted(answer)]
    return list(answer) if isinstance(answer, tuple | list) else [answer]


def exercise(subject: Subject, instance: Any) -> Any:
    """Use ``instance`` once, as dadkit would."""
    if subject.kind == "context":
        return [instance(size, torch.Generator().manual_seed(0)) for size in IMAGE_SIZES]
    if subject.kind == "dataset":
        return [_read(instance, index) for index in range(min(3, len(instance)))]
    return answers_to(subject, instance, inputs_for(subject))


def _read(dataset: Any, index: int) -> Any:
    try:
        return dataset[index]
    except SampleError:
        return None


def spread(x: Tensor) -> float:
    """The largest magnitude among finite values, at least a tiny number: what tolerances are relative to."""
    finite = x[x.isfinite()].double().abs()
    return max(float(finite.max()) if finite.numel() else 0.0, 1e-12)


def is_close(found: Tensor, wanted: Tensor, *, tolerance: float) -> bool:
    """True if the two agree to ``tolerance`` of their magnitude, NaN and infinity in the same places."""
    if found.shape != wanted.shape:
        return False
    if found.dtype == torch.bool:
        return bool(torch.equal(found, wanted))
    found, wanted = found.double(), wanted.double()
    limit = tolerance * spread(wanted)
    return bool(torch.isclose(found, wanted, rtol=0.0, atol=limit, equal_nan=True).all())
