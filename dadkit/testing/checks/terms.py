"""What a term answers to the inputs of a step that it declares, and what it owes to training."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

import torch
from torch import Tensor

from dadkit.interfaces import FeaturePair, MapPair, ModelSpec, Need, PatchPair, StepInputs, Term
from dadkit.spaces import Space
from dadkit.testing.check import check, fail, skip_unless
from dadkit.testing.maps import make_pair
from dadkit.testing.subject import Subject, is_close

_IMAGES = 4
_UNLABELLED = {"regions", "patches", "teachers", "features"}


@check("term", since=1)
def builds(subject: Subject) -> None:
    """Its options build a Term that says what it needs, out of the inputs that a step can give."""
    term = subject.shared
    if not isinstance(term, Term):
        fail(f"it built a {type(term).__qualname__}", "Derive from dadkit.interfaces.Term")
    unknown = set(term.needs) - set(get_args(Need))
    if unknown:
        fail(f"it needs {', '.join(sorted(unknown))}", f"Choose from {', '.join(get_args(Need))}")
    if not set(term.needs) & {*_UNLABELLED, "labels"}:
        fail("it looks at no image", "Let needs name regions, patches, teachers, features or labels")


@check("term", since=1, needs=["builds"])
def answers(subject: Subject) -> None:
    """It answers with one finite floating-point number that has a gradient, to images of every kind that it needs."""
    for inputs in _cases(subject):
        value = subject.shared(inputs)
        if not isinstance(value, Tensor) or value.shape != () or not value.is_floating_point():
            what = f"a tensor {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__qualname__
            fail(f"it answered with {what}", "Return one number: the mean over images")
        if not value.isfinite():
            fail(f"it answered {value.item()} to ordinary maps", "Guard divisions and logarithms")
        if not value.requires_grad:
            fail("its answer has no gradient", "Compute it from the student's maps or features, without detach")


@check("term", since=1, needs=["answers"])
def deterministic(subject: Subject) -> None:
    """The same inputs get the same answer."""
    for inputs in _cases(subject):
        first, second = (subject.shared(inputs).item() for _ in range(2))
        if first != second:
            fail(f"two calls with the same inputs give {first:.6g} and {second:.6g}", "Seed what it draws, per call")


@check("term", since=1, needs=["answers"])
def gradient_is_finite(subject: Subject) -> None:
    """The gradient is finite on everything of the student that it looks at, and on its own parameters."""
    for inputs in _cases(subject):
        term = subject.fresh()
        leaves = [leaf for leaf in _student(inputs) if leaf.requires_grad]
        found = torch.autograd.grad(term(inputs), [*leaves, *term.parameters()], allow_unused=True)
        if all(gradient is None for gradient in found[: len(leaves)]):
            fail("nothing of the student gets a gradient", "Compute the value from the student's maps or features")
        if not all(gradient is None or gradient.isfinite().all() for gradient in found):
            fail("a gradient is NaN or infinite", "Guard square roots and divisions at 0")


@check("term", since=1, needs=["deterministic"])
def masked_values(subject: Subject) -> None:
    """NaN outside the mask changes neither the value nor any gradient."""
    skip_unless(bool(set(subject.shared.needs) & {"regions", "labels", "patches", "teachers"}), "it looks at no map")
    for clean, spoilt in zip(_cases(subject), _cases(subject, outside=float("nan")), strict=True):
        wanted, found = (subject.shared(inputs) for inputs in (clean, spoilt))
        if not is_close(found, wanted, tolerance=1e-4):
            fail(
                f"NaN outside the mask changes the value from {wanted.item():.6g} to {found.item():.6g}",
                "Replace masked values by torch.where before any arithmetic; multiplying with the mask leaves NaN (0 * NaN)",
            )


@check("term", since=1, needs=["deterministic"])
def parts_add_up(subject: Subject) -> None:
    """The value of four images is the mean of its values on two of them each, so that gradients can be accumulated."""
    for labelled in (False, True):
        whole = make_inputs(subject.shared.needs, labelled=labelled)
        if whole is None:
            continue
        halves = [make_inputs(subject.shared.needs, labelled=labelled, rows=rows) for rows in (slice(0, 2), slice(2, 4))]
        wanted = subject.shared(whole).item()
        found = sum(subject.shared(half).item() for half in halves if half is not None) / 2
        if abs(found - wanted) > 1e-3 * max(abs(wanted), 1e-3):
            fail(
                f"four images give {wanted:.6g}, the mean of two halves {found:.6g}", "Take a mean over images, image by image"
            )


@check("term", since=1, needs=["builds"])
def checks(subject: Subject) -> None:
    """Its check answers with sentences, for specs of students and teachers in every space."""
    for space in Space:
        spec = ModelSpec("any", space, features={"tokens": 8})
        said = list(subject.shared.check(spec, [spec, spec]))
        if not all(isinstance(line, str) and line for line in said):
            fail(f"check answered {said!r}", "Yield a sentence for each reason why it cannot work, and nothing if it can")


@check("term", since=1, needs=["answers"])
def round_trip(subject: Subject) -> None:
    """Its state loads into a new one, which answers the same."""
    for inputs in _cases(subject):
        first, second = subject.fresh(seed=0), subject.fresh(seed=1)
        second.load_state_dict(first.state_dict())
        if not is_close(second(inputs), first(inputs), tolerance=1e-5):
            fail("a new one with its state answers something else", "Keep what it learns in parameters, the rest in buffers")


def make_inputs(
    needs: frozenset[Need], *, labelled: bool, rows: slice = slice(None), outside: float | None = None
) -> StepInputs | None:
    """What a step would give to a term with these needs, on smooth maps; None if it looks at nothing of this kind.

    Args:
        needs: the term's.
        labelled: images with true depth, or without.
        rows: which of the four images.
        outside: what targets hold where they are not valid.
    """
    if not needs & ({"labels"} if labelled else _UNLABELLED):
        return None
    pred, target, mask = (x[rows] for x in make_pair(5 + labelled, batch=_IMAGES))
    count = len(pred)
    target = target if outside is None else target.where(mask, outside)
    camera = torch.tensor([[30.0, 0, 14], [0, 30, 10], [0, 0, 1]]).expand(count, 3, 3) if "cameras" in needs else None
    pair = MapPair(pred.clone().requires_grad_(), target, mask, count, 1.0, None, camera, camera)
    if labelled:
        return StepInputs(Space.DISPARITY, count, True, pair)
    boxes = torch.tensor([[0.0, 0, 14, 10], [10, 6, 24, 16]]).expand(count, 2, 4)
    pieces, valid = (torch.stack([x[:, 0, :10, :14], x[:, 0, 6:16, 10:24]], dim=1) for x in (target, mask))
    patches = PatchPair(pair.pred, pieces, valid, boxes) if "patches" in needs else None
    features = None
    if "features" in needs:
        generator = torch.Generator().manual_seed(7)
        own, other = (torch.randn(_IMAGES, 4, 8, generator=generator)[rows] for _ in range(2))
        features = FeaturePair({"tokens": own.requires_grad_()}, {"tokens": other}, (20, 28))
    teachers = {"first": pair, "second": replace(pair, target=2 * target)} if "teachers" in needs else {}
    return StepInputs(Space.DISPARITY, count, False, pair if "regions" in needs else None, patches, features, teachers)


def _cases(subject: Subject, outside: float | None = None) -> Iterator[StepInputs]:
    for labelled in (False, True):
        inputs = make_inputs(subject.shared.needs, labelled=labelled, outside=outside)
        if inputs is not None:
            yield inputs


def _student(inputs: StepInputs) -> list[Tensor]:
    """Everything of the student in these inputs."""
    maps = [pair.pred for pair in (inputs.maps, inputs.patches, *inputs.teachers.values()) if pair is not None]
    return [*dict.fromkeys(maps), *(inputs.features.student.values() if inputs.features else ())]
