"""What a context sampler draws: boxes that exist, from its generator alone."""

from __future__ import annotations

import copy
import random

import torch
from torch import Tensor

from dadkit.interfaces import Contexts, ContextSampler
from dadkit.testing.check import check, fail
from dadkit.testing.subject import IMAGE_SIZES, Subject

_SEEDS = range(12)


@check("context", since=1)
def builds(subject: Subject) -> None:
    """Its options build something that can be called with an image's size and a generator."""
    if not isinstance(subject.shared, ContextSampler):
        fail(f"it built a {type(subject.shared).__qualname__}", "Give it __call__(size, generator)")


@check("context", since=1, needs=["builds"])
def answers(subject: Subject) -> None:
    """It answers with Contexts: region (4,), patches (N, 4), both float64, and two sizes of at least one pixel."""
    found = _draw(subject.shared, IMAGE_SIZES[0], 0)
    if not isinstance(found, Contexts):
        fail(f"it answered with a {type(found).__qualname__}", "Return dadkit.interfaces.Contexts")
    if found.region.shape != (4,) or found.patches.ndim != 2 or found.patches.shape[1] != 4:
        fail(
            f"region is {tuple(found.region.shape)}, patches {tuple(found.patches.shape)}",
            "Give region (4,) and patches (N, 4)",
        )
    if found.region.dtype != torch.float64 or found.patches.dtype != torch.float64:
        fail(f"region is {found.region.dtype}, patches {found.patches.dtype}", "Give float64: half a pixel in 10,000 matters")
    sizes = (found.view_size, found.patch_size)
    if not all(
        isinstance(size, tuple) and len(size) == 2 and all(isinstance(x, int) and x >= 1 for x in size) for size in sizes
    ):
        fail(
            f"view_size is {found.view_size}, patch_size {found.patch_size}", "Give (height, width) in whole pixels, at least 1"
        )


@check("context", since=1, needs=["answers"])
def regions_inside(subject: Subject) -> None:
    """Every region is inside its image and has an area."""
    for size in IMAGE_SIZES:
        for seed in _SEEDS:
            found = _draw(subject.shared, size, seed)
            if not _inside(found.region[None], size[1], size[0]):
                fail(
                    f"an image of {size[0]} x {size[1]} got region {found.region.tolist()} (seed {seed})",
                    "Keep 0 <= x0 < x1 <= width and 0 <= y0 < y1 <= height; boxes are x0, y0, x1, y1",
                )


@check("context", since=1, needs=["regions_inside"])
def patches_inside(subject: Subject) -> None:
    """Every patch is inside its region, in pixels from the region's corner, and has an area."""
    for size in IMAGE_SIZES:
        for seed in _SEEDS:
            found = _draw(subject.shared, size, seed)
            x0, y0, x1, y1 = found.region.tolist()
            if not _inside(found.patches, x1 - x0, y1 - y0):
                fail(
                    f"region {found.region.tolist()} got patches {found.patches.tolist()} (seed {seed})",
                    "Patches are relative to the region's corner: 0 <= x0 < x1 <= region width, the same for y",
                )


@check("context", since=1, needs=["answers"])
def same_shapes(subject: Subject) -> None:
    """Every image gets the same view_size, patch_size and number of patches, so that batches can be stacked."""
    shapes: dict[tuple[tuple[int, int], tuple[int, int], int], tuple[int, int]] = {}
    for size in IMAGE_SIZES:
        for seed in _SEEDS:
            found = _draw(subject.shared, size, seed)
            shapes.setdefault((found.view_size, found.patch_size, len(found.patches)), size)
    if len(shapes) > 1:
        (first, one), (second, other) = list(shapes.items())[:2]
        fail(
            f"an image of {one[0]} x {one[1]} got (view_size, patch_size, N) = {first}, "
            f"one of {other[0]} x {other[1]} {second}",
            "Fix the three by options; resize what is smaller",
        )


@check("context", since=1, needs=["answers"])
def reproducible(subject: Subject) -> None:
    """What it draws follows from the image's size and the generator's state alone, in whatever process it is built."""
    for size in IMAGE_SIZES:
        drawn = []
        for seed in (11, 12):  # of the process's random numbers, which must not matter
            sampler = subject.fresh(seed=seed)
            random.seed(seed)
            torch.default_generator.manual_seed(seed)
            drawn.append(_draw(sampler, size, 5))
        if not _equal(*drawn):
            fail(
                "two samplers with the same options and equal generators drew different boxes",
                "Draw every number from the generator that is given, none from torch's, Python's or numpy's global ones",
            )


@check("context", since=1, needs=["reproducible"])
def no_memory(subject: Subject) -> None:
    """It remembers nothing: the same size and generator state draw the same boxes, however often it was used before."""
    sampler = subject.fresh()
    first = copy.deepcopy(_draw(sampler, IMAGE_SIZES[0], 5))
    for size in IMAGE_SIZES:
        _draw(sampler, size, 6)
    if not _equal(first, _draw(sampler, IMAGE_SIZES[0], 5)):
        fail(
            "after some other images the same generator state draws other boxes",
            "Keep no counter and no generator of its own: workers share nothing, and a resumed run could not repeat it",
        )


def _draw(sampler: ContextSampler, size: tuple[int, int], seed: int) -> Contexts:
    return sampler(size, torch.Generator().manual_seed(seed))


def _inside(boxes: Tensor, width: float, height: float) -> bool:
    x0, y0, x1, y1 = boxes.unbind(1)
    slack = 1e-6
    return bool(
        ((x0 >= -slack) & (y0 >= -slack) & (x0 < x1) & (y0 < y1) & (x1 <= width + slack) & (y1 <= height + slack)).all()
    )


def _equal(one: Contexts, other: Contexts) -> bool:
    same = one.view_size == other.view_size and one.patch_size == other.patch_size
    return same and torch.equal(one.region, other.region) and torch.equal(one.patches, other.patches)
