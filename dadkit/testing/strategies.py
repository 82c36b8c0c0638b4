"""Hypothesis strategies for depth maps, masks and pairs: the whole domain that the losses document, awkward corners included.

Example::

    @given(pair=pairs(dtype=torch.float64))
    def test_my_normalizer(pair):
        loss = my_loss(pair.pred, pair.target, pair.mask)

Shapes, kinds and masks shrink; values come from a drawn seed, so that large maps stay cheap, except for ``ties``, whose few
small integers are drawn one by one and shrink as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor

from dadkit.testing.maps import KINDS, make_map

__all__ = ["KINDS", "MASKS", "Pair", "depth_maps", "masks", "pairs", "shapes"]

MASKS = ("full", "most", "half", "few", "one", "empty")
"""How much of an image is valid."""


@dataclass(frozen=True, eq=False)
class Pair:
    """A prediction, its target and its mask, (B, H, W) each; ``mask`` may be None."""

    pred: Tensor
    target: Tensor
    mask: Tensor | None

    @property
    def valid(self) -> Tensor:
        """The mask, or one that is True everywhere."""
        return torch.ones_like(self.target, dtype=torch.bool) if self.mask is None else self.mask


def shapes(max_batch: int = 3, max_side: int = 24) -> st.SearchStrategy[tuple[int, int, int]]:
    """(B, H, W), from a single pixel."""
    side = st.integers(1, max_side)
    return st.tuples(st.integers(1, max_batch), side, side)


@st.composite
def depth_maps(
    draw: st.DrawFn,
    shape: tuple[int, int, int] | None = None,
    *,
    kinds: Sequence[str] = KINDS,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Maps (B, H, W), each image of a kind of its own.

    Args:
        draw: given by hypothesis.
        shape: (B, H, W); None draws one.
        kinds: the kinds to draw from, out of :data:`KINDS`.
        dtype: of the result; values are made in it, so float64 maps use all their digits.
    """
    if shape is None:
        shape = draw(shapes())
    batch, height, width = shape
    images = []
    for _ in range(batch):
        kind = draw(st.sampled_from(kinds))
        if kind == "ties":
            values = draw(st.lists(st.integers(0, 3), min_size=1, max_size=min(height * width, 12)))
            flat = torch.tensor(values, dtype=dtype)
            images.append(flat[torch.arange(height * width) % len(values)].view(height, width))
        else:
            images.append(make_map(kind, height, width, draw(_generators()), dtype))
    return torch.stack(images)


@st.composite
def masks(draw: st.DrawFn, shape: tuple[int, int, int], *, kinds: Sequence[str] = MASKS) -> Tensor:
    """Bool masks (B, H, W), each image of a kind of its own, from full to empty."""
    share = {"full": 1.0, "most": 0.9, "half": 0.5, "few": 0.1, "one": 0.0, "empty": 0.0}
    images = []
    for _ in range(shape[0]):
        kind = draw(st.sampled_from(kinds))
        generator = draw(_generators())
        image = torch.rand(shape[1:], generator=generator) < share[kind]
        if kind == "one":
            image.view(-1)[int(torch.randint(image.numel(), (), generator=generator))] = True
        images.append(image)
    return torch.stack(images)


@st.composite
def pairs(
    draw: st.DrawFn,
    *,
    dtype: torch.dtype = torch.float32,
    max_batch: int = 3,
    max_side: int = 24,
    kinds: Sequence[str] = KINDS,
    mask_kinds: Sequence[str] = MASKS,
) -> Pair:
    """Returns a prediction, a target and a mask; the prediction is unrelated, or the target with another scale, shift and
    noise.
    """
    shape = draw(shapes(max_batch, max_side))
    target = draw(depth_maps(shape, kinds=kinds, dtype=dtype))
    if draw(st.booleans()):
        pred = draw(depth_maps(shape, kinds=kinds, dtype=dtype))
    else:
        noise = torch.randn(shape, generator=draw(_generators()), dtype=dtype)
        spread = target.flatten(1).std(1, correction=0)[:, None, None]
        pred = draw(st.sampled_from([0.5, 1.0, 3.0])) * target + draw(st.sampled_from([0.0, 0.2])) + 0.2 * spread * noise
    return Pair(pred, target, draw(st.none() | masks(shape, kinds=mask_kinds)))


def _generators() -> st.SearchStrategy[torch.Generator]:
    return st.integers(0, 2**16).map(lambda seed: torch.Generator().manual_seed(seed))
