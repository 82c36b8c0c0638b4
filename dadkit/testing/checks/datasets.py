"""What a dataset yields: well-formed samples, the same ones every time, in every worker."""

from __future__ import annotations

import pickle

import torch
from torch import Tensor

from dadkit.data import Dataset, Sample, SampleError
from dadkit.spaces import Space
from dadkit.testing.check import check, fail, skip_unless
from dadkit.testing.subject import Subject

_LOOKED_AT = 8


@check("dataset", since=1)
def builds(subject: Subject) -> None:
    """Its options build something with __len__ and __getitem__, and it is not empty."""
    dataset = subject.shared
    if not isinstance(dataset, Dataset):
        fail(f"it built a {type(dataset).__qualname__}", "Give it __len__ and __getitem__")
    if len(dataset) < 1:
        fail("it is empty", "Raise dadkit.errors.DataError that says what was looked for, and where")


@check("dataset", since=1, needs=["builds"])
def answers(subject: Subject) -> None:
    """Every item is a Sample with an image (3, H, W) uint8 and a key of text; SampleError is for those that cannot be read."""
    for index, sample in _samples(subject.shared).items():
        if not isinstance(sample, Sample):
            fail(f"item {index} is a {type(sample).__qualname__}", "Return dadkit.data.Sample")
        image = sample.image
        if (
            not isinstance(image, Tensor)
            or image.dtype != torch.uint8
            or image.ndim != 3
            or image.shape[0] != 3
            or 0 in image.shape
        ):
            what = f"{image.dtype} {tuple(image.shape)}" if isinstance(image, Tensor) else type(image).__qualname__
            fail(f"the image of item {index} is {what}", "Give uint8 RGB (3, H, W), upright")
        if not isinstance(sample.key, str) or not sample.key:
            fail(f"the key of item {index} is {sample.key!r}", "Give a stable text: the path without extension, or a number")


@check("dataset", since=1, needs=["answers"])
def labels(subject: Subject) -> None:
    """Depth, where there is any, is (1, H, W) float32 with a space, valid bool; where valid no NaN, and metres are positive."""
    samples = list(_samples(subject.shared).values())
    skip_unless(any(sample.depth is not None for sample in samples), "it has no depth")
    for sample in samples:
        if sample.depth is None:
            continue
        shape = (1, *sample.image.shape[1:])
        if sample.depth.shape != shape or sample.depth.dtype != torch.float32:
            fail(
                f"the depth of {sample.key} is {sample.depth.dtype} {tuple(sample.depth.shape)}, "
                f"its image {tuple(sample.image.shape)}",
                f"Give float32 {shape}",
            )
        if not isinstance(sample.space, Space):
            fail(f"the space of {sample.key} is {sample.space!r}", "Declare dadkit.spaces.Space: nothing is guessed")
        if sample.valid is not None and (sample.valid.shape != shape or sample.valid.dtype != torch.bool):
            fail(f"valid of {sample.key} is {sample.valid.dtype} {tuple(sample.valid.shape)}", f"Give bool {shape}, or None")
        values = sample.depth if sample.valid is None else sample.depth[sample.valid]
        if values.isnan().any() or (sample.space is Space.METRIC and (values <= 0).any()):
            fail(
                f"valid pixels of {sample.key} hold NaN, or metres that are not positive",
                "Mark them in valid; sky is infinity",
            )


@check("dataset", since=1, needs=["labels"])
def one_space(subject: Subject) -> None:
    """All depth is in one space, the one that was registered if one was."""
    spaces = {sample.space for sample in _samples(subject.shared).values() if sample.space is not None}
    registered = None if subject.component is None else subject.component.space
    if len(spaces) > 1 or (registered is not None and {str(space) for space in spaces} != {registered}):
        found = ", ".join(sorted(str(space) for space in spaces))
        fail(f"its samples are in {found}, registered is {registered}", "Convert when reading, or make one dataset a space")


@check("dataset", since=1, needs=["answers"])
def unique_keys(subject: Subject) -> None:
    """No two samples share a key: results and reports go by it."""
    keys = [sample.key for sample in _samples(subject.shared).values()]
    twice = sorted({key for key in keys if keys.count(key) > 1})
    if twice:
        fail(f"more than one sample is called {', '.join(twice[:3])}", "Use the path relative to the root, or the index")


@check("dataset", since=1, needs=["answers"])
def same_every_time(subject: Subject) -> None:
    """Item i is the same sample every time, whatever was read before and by which process: augmentation is dadkit's."""
    for index, sample in _samples(subject.shared).items():
        if not _equal(subject.fresh()[index], sample):
            fail(
                f"item {index} differs between two readings", "Take out random augmentation and counters; cut and flip nothing"
            )


@check("dataset", since=1, needs=["same_every_time"])
def samples_are_copies(subject: Subject) -> None:
    """Whoever writes into a sample's tensors does not change the dataset."""
    dataset = subject.fresh()
    index, sample = next(iter(_samples(dataset).items()))
    wanted = sample.image.clone()
    sample.image.fill_(0 if wanted.any() else 1)
    if not torch.equal(dataset[index].image, wanted):
        fail("writing into a sample changed what the dataset holds", "Return a copy of what is cached: tensor.clone()")


@check("dataset", since=1, needs=["same_every_time", "pickles"])
def same_in_workers(subject: Subject) -> None:
    """A pickled copy, as loader workers get it, yields the same samples, and so does one that was used before."""
    dataset = subject.fresh()
    wanted = _samples(subject.shared)
    for index in reversed(wanted):
        dataset[index]
    twin = pickle.loads(pickle.dumps(dataset))
    if len(twin) != len(dataset) or not all(_equal(twin[index], sample) for index, sample in wanted.items()):
        fail("a pickled copy yields other samples", "Let what is read follow from the options and the index alone")


def _samples(dataset: Dataset) -> dict[int, Sample]:
    """The first items that can be read, by index; those that raise SampleError are left out, as loaders do."""
    found: dict[int, Sample] = {}
    reasons: list[str] = []
    for index in range(min(_LOOKED_AT, len(dataset))):
        try:
            found[index] = dataset[index]
        except SampleError as error:
            reasons.append(str(error))
    if not found:
        fail(f"none of the first {len(reasons)} items can be read: {reasons[0]}", "Give options that lead to readable files")
    return found


def _equal(one: Sample, other: Sample) -> bool:
    def same(x: Tensor | None, y: Tensor | None) -> bool:
        if x is None or y is None:
            return x is y
        return x.shape == y.shape and bool(((x == y) | ((x != x) & (y != y))).all())  # NaN equals NaN here

    return (one.key, one.space) == (other.key, other.space) and all(
        same(getattr(one, name), getattr(other, name)) for name in ("image", "depth", "valid", "intrinsics")
    )
