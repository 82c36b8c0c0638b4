"""What a feature encoder answers."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from dadkit.testing.check import check, fail
from dadkit.testing.subject import Subject, images, legal_size


@check("encoder", since=1, needs=["builds"])
def answers(subject: Subject) -> None:
    """Images (B, 3, H, W) get a mapping of tap names to tensors, tokens (B, N, C) or maps (B, C, h, w), B images each."""
    encoder = subject.shared
    if not encoder.spec.features:
        fail("spec.features declares no tap", "Name the taps and their channels: students ask for them by name")
    with torch.no_grad():
        found = encoder(images(legal_size(subject)))
    if not isinstance(found, Mapping) or not found:
        fail(f"forward returned a {type(found).__qualname__}", "Return a mapping from tap names to tensors")
    for name, tap in found.items():
        if not isinstance(tap, Tensor) or tap.ndim not in (3, 4) or len(tap) != 2:
            shape = tuple(tap.shape) if isinstance(tap, Tensor) else type(tap).__qualname__
            fail(f"tap '{name}' of 2 images is {shape}", "Give tokens (B, N, C) or maps (B, C, h, w)")


@check("encoder", since=1, needs=["features", "batch_independent"])
def local_tokens(subject: Subject) -> None:
    """Tokens are ordered row by row, without a class token: their number is that of a grid with the image's proportions."""
    height, width = legal_size(subject)
    found = subject.shared(images((height, width)))
    for name in subject.shared.spec.features:
        count = found[name].shape[1] if found[name].ndim == 3 else None
        if count is None:
            continue
        grids = [(count // columns, columns) for columns in range(1, count + 1) if count % columns == 0]
        if not any(abs(rows * width - columns * height) <= max(height, width) for rows, columns in grids):
            fail(
                f"tap '{name}' has {count} tokens for an image of {height} x {width}, which is no grid of its proportions",
                "Leave out class and register tokens; give (B, rows * columns, C)",
            )
