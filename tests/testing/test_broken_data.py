"""Context samplers and datasets that are broken on purpose, in one way, which one check catches and no other."""

from __future__ import annotations

import secrets
from dataclasses import replace

import torch

from dadkit.data import Sample
from dadkit.interfaces import Contexts
from dadkit.spaces import Space
from dadkit.testing.toy import ToyImages, ToySampler

TOYS = {"context": ToySampler, "dataset": ToyImages}


def counts(self):
    self.calls = getattr(self, "calls", 0) + 1
    return self.calls


def sampler(change=None, init=None):
    class Broken(ToySampler):
        def __init__(self):
            super().__init__()
            if init:
                init(self)

        def __call__(self, size, generator):
            found = super().__call__(size, generator)
            return change(self, found, size) if change else found

        def __reduce__(self):
            return (ToySampler if init is None else lambda: 0), ()

    return Broken


def smaller(found, factor):
    x0, y0, x1, y1 = found.region
    region = torch.stack([x0, y0, x0 + (x1 - x0) * factor, y0 + (y1 - y0) * factor])
    return Contexts(region, found.view_size, found.patches * factor, found.patch_size)


def from_the_corner_of_the_image(self, found, size):
    return replace(found, patches=found.patches + found.region[:2].repeat(2) + 1)


BROKEN_SAMPLERS = [
    ("builds", object, {}),
    ("answers", sampler(lambda s, found, size: replace(found, region=found.region.float())), {}),
    ("answers", sampler(lambda s, found, size: replace(found, view_size=32)), {}),
    ("regions_inside", sampler(lambda s, found, size: replace(found, region=found.region[[1, 0, 3, 2]] + 3)), {}),
    ("patches_inside", sampler(from_the_corner_of_the_image), {}),
    ("same_shapes", sampler(lambda s, found, size: replace(found, patches=found.patches.repeat(size[0] // 300, 1))), {}),
    ("reproducible", sampler(lambda s, found, size: smaller(found, 0.5 + secrets.randbelow(1000) / 2000)), {}),
    ("no_memory", sampler(lambda s, found, size: smaller(found, 1 / counts(s))), {}),
    ("pickles", sampler(init=lambda s: None), {}),
    ("no_global_side_effects", sampler(lambda s, found, size: torch.rand(()) >= 0 and found), {}),
]


class AroundImages(ToyImages):
    def __init__(self, change):
        super().__init__()
        self.change = change

    def __getitem__(self, index):
        return self.change(self, super().__getitem__(index), index)

    def __reduce__(self):
        return AroundImages, (self.change,)


def images(change):
    return lambda: AroundImages(change)


def cached(self, sample, index):
    return self.__dict__.setdefault("samples", {}).setdefault(index, sample)


def brighter(self, sample, index):
    return replace(sample, image=sample.image + (counts(self) if index == 0 else 0))


def other_space(self, sample, index):
    return replace(sample, space=Space.METRIC if index % 2 else Space.DEPTH)


def seeds_globally(self, sample, index):
    torch.manual_seed(index)
    return sample


def not_a_sample(self, sample, index):
    return Sample(image=sample.image / 255, key=sample.key)


def without_space(self, sample, index):
    return replace(sample, space=None)


def without_numbers(self, sample, index):
    return replace(sample, depth=sample.depth * float("nan"))


def one_name(self, sample, index):
    return replace(sample, key="photo")


class Offset(ToyImages):
    def __init__(self, offset=0):
        super().__init__()
        self.offset = offset

    def __getitem__(self, index):
        sample = super().__getitem__(index)
        return replace(sample, image=sample.image + self.offset)

    def __reduce__(self):
        return Offset, (1,)


BROKEN_DATASETS = [
    ("builds", lambda: ToyImages(count=0), {}),
    ("answers", images(not_a_sample), {}),
    ("labels", images(without_space), {}),
    ("labels", images(without_numbers), {}),
    ("one_space", images(other_space), {}),
    ("unique_keys", images(one_name), {}),
    ("same_every_time", images(brighter), {}),
    ("samples_are_copies", images(cached), {}),
    ("same_in_workers", Offset, {}),
    ("pickles", type("Local", (ToyImages,), {"__reduce__": lambda self: (lambda: 0, ())}), {}),
    ("no_global_side_effects", images(seeds_globally), {}),
]

ROWS = [*(("context", *row) for row in BROKEN_SAMPLERS), *(("dataset", *row) for row in BROKEN_DATASETS)]


def test_good_toys_pass_everything(passes, kind):
    passes(kind, TOYS[kind])


def test_a_broken_toy_is_caught_by_its_check_and_no_other(is_caught, row):
    is_caught(*row)


def test_every_check_has_its_broken_toy(proves_every_check, kind):
    proves_every_check(kind, ROWS)
