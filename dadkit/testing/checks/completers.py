"""What a completer answers for every number and pattern of points."""

from __future__ import annotations

import torch
from torch import Tensor

from dadkit.errors import DadkitError
from dadkit.interfaces import Completer, CompleterSpec, Hints, Prediction
from dadkit.spaces import Space
from dadkit.testing.check import check, fail
from dadkit.testing.subject import Subject

SIZE = (48, 64)


def _scene(count: int, *, seed: int = 0) -> tuple[Tensor, Hints, Prediction]:
    """A picture of a floor and a box, ``count`` points of it, and a relative disparity that bends."""
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
    metres = 6 - 4 * rows
    metres[10:30, 8:24] = 1.5
    relative = 3 * (1 + 0.3 * torch.sin(3 * columns + 2 * rows)) / metres + 0.8
    place = torch.randperm(SIZE[0] * SIZE[1], generator=generator)[:count]
    at = torch.stack((place % SIZE[1], place // SIZE[1]), 1)
    hints = Hints.from_points(torch.cat((at.float(), metres.flatten()[place][:, None]), 1), SIZE)
    images = torch.stack((1 / metres, rows, columns))[None].clamp(0, 1)
    return images, hints, Prediction(relative[None, None], Space.DISPARITY)


def _answer(subject: Subject, images: Tensor, hints: Hints, relative: Prediction) -> Prediction:
    answer: Prediction = subject.shared.complete(images, hints, relative if subject.shared.spec.needs_relative else None)
    return answer


@check("completer", since=1)
def builds(subject: Subject) -> None:
    """Its options build a Completer that declares a CompleterSpec."""
    if not isinstance(subject.shared, Completer):
        fail(f"it built a {type(subject.shared).__qualname__}", "Derive it from dadkit.interfaces.Completer")
    if not isinstance(getattr(subject.shared, "spec", None), CompleterSpec):
        fail("it has no spec", "Set self.spec = CompleterSpec(name=…) in __init__")


@check("completer", since=1, needs=["builds"])
def answers(subject: Subject) -> None:
    """From its fewest points to many, the answer is metric, positive and finite, at the picture's size."""
    for count in sorted({subject.shared.spec.min_hints, 5, 10, 200}):
        if count < subject.shared.spec.min_hints:
            continue
        images, hints, relative = _scene(count)
        answer = _answer(subject, images, hints, relative)
        if answer.space is not Space.METRIC or tuple(answer.depth.shape) != (1, 1, *SIZE):
            fail(
                f"{count} points gave {answer.space} of shape {tuple(answer.depth.shape)}",
                "Return metres at the picture's size",
            )
        kept = answer.depth if answer.valid is None else answer.depth[answer.valid]
        if not bool((kept.isfinite() & (kept > 0)).all()):
            fail(f"{count} points gave values that are not positive and finite", "Put a floor under the depth")


@check("completer", since=1, needs=["answers"])
def too_few_points(subject: Subject) -> None:
    """Without a usable point it refuses with a DadkitError."""
    images, hints, relative = _scene(1)
    try:
        _answer(subject, images, Hints(hints.depth, torch.zeros_like(hints.valid)), relative)
    except DadkitError:
        return
    fail("no point at all was answered", "Raise a DadkitError: without metres there is no scale")


@check("completer", since=1, needs=["answers"])
def follows_the_unit(subject: Subject) -> None:
    """Ten times the hints give ten times the answer."""
    images, hints, relative = _scene(100)
    one = _answer(subject, images, hints, relative).depth
    ten = _answer(subject, images, Hints(10 * hints.depth, hints.valid), relative).depth
    if not torch.allclose(ten, 10 * one, rtol=1e-3, atol=0):
        worst = float((ten / one / 10 - 1).abs().max())
        fail(f"the answer is off by up to {worst:.1%}", "Divide the hints by their median, and multiply the answer by it")


@check("completer", since=1, needs=["answers"])
def masked_values(subject: Subject) -> None:
    """Values of the hints outside their mask, NaN and infinity included, change nothing."""
    images, hints, relative = _scene(50)
    clean = _answer(subject, images, hints, relative).depth
    for wild in (float("nan"), float("inf"), -1.0, 1e30):
        spoilt = Hints(torch.where(hints.valid, hints.depth, wild), hints.valid)
        if not torch.equal(_answer(subject, images, spoilt, relative).depth, clean):
            fail(f"{wild} outside the mask changes the answer", "Read the hints through torch.where(valid, depth, 0)")


@check("completer", since=1, needs=["answers"])
def batch(subject: Subject) -> None:
    """Each image is answered by itself."""
    scenes = [_scene(60), _scene(20, seed=1)]
    alone = torch.cat([_answer(subject, *scene).depth for scene in scenes])
    images, depth, valid, maps = (
        torch.cat(parts)
        for parts in (
            [scene[0] for scene in scenes],
            [scene[1].depth for scene in scenes],
            [scene[1].valid for scene in scenes],
            [scene[2].depth for scene in scenes],
        )
    )
    together = _answer(subject, images, Hints(depth, valid), Prediction(maps, Space.DISPARITY)).depth
    if not torch.allclose(together, alone, rtol=1e-4, atol=0):
        fail("an image's answer depends on the others of its batch", "Fit and normalise each image by itself")
