"""Every check is proven by a toy that is broken on purpose, in one way, which this check catches and no other."""

from __future__ import annotations

import secrets
import threading
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from dadkit.data import Sample
from dadkit.interfaces import Contexts, DepthModel, Prediction
from dadkit.plugin import Component
from dadkit.spaces import Space
from dadkit.testing import Outcome, check_component, check_plugin, checks_of
from dadkit.testing.run import run_checks
from dadkit.testing.subject import make_subject
from dadkit.testing.toy import ToyEncoder, ToyImages, ToyLoss, ToyNormalizer, ToySampler, ToyStudent, ToyTeacher

TOYS = {
    "teacher": ToyTeacher,
    "student": ToyStudent,
    "encoder": ToyEncoder,
    "normalizer": ToyNormalizer,
    "context": ToySampler,
    "loss": ToyLoss,
    "dataset": ToyImages,
}
MODELS = ("teacher", "student", "encoder")
DEPTH = ("teacher", "student")


# -- models -----------------------------------------------------------------------------------------------------------------


def mapped(answer, change):
    """The answer with ``change`` applied to its depth, or to an encoder's taps."""
    if isinstance(answer, Prediction):
        return replace(answer, depth=change(answer.depth))
    return {name: change(tap) for name, tap in answer.items()}


def model(kind, *, init=None, forward=None, inside=None, spec=None, **methods):
    """A toy model with something broken: after construction, around forward, inside of the network, or in its spec."""
    toy = TOYS[kind]

    class Broken(toy):
        def __init__(self):
            super().__init__()
            if spec:
                self.spec = replace(self.spec, **spec)
            if init:
                init(self)

        def forward(self, images):
            run = super().forward
            return forward(self, run, images) if forward else run(images)

        def estimate(self, x):
            depth, taps = super().estimate(inside(x) if inside else x)
            return depth + getattr(self, "offset", 0), taps

        def encode(self, x):
            taps = super().encode(inside(x) if inside else x)
            return {name: tap + getattr(self, "offset", 0) for name, tap in taps.items()}

    for name, method in methods.items():
        setattr(Broken, name, method)
    return Broken


def counts(self):
    self.calls = getattr(self, "calls", 0) + 1
    return self.calls


def crop(self, run, images):
    height, width = (side // 4 * 4 for side in images.shape[-2:])
    return run(images[..., :height, :width])


def refuse(self, run, images):
    if images.shape[-1] % 4:
        raise ValueError("bad size")
    return run(images)


def clamp_in_place(self, run, images):
    with torch.no_grad():
        images.clamp_(0.2, 0.8)
    return run(images)


def branch(self, run, images):
    answer = run(images)
    return answer if answer.depth.mean() > -1 else mapped(answer, torch.neg)


def float32_only(x):
    return F.conv2d(x, torch.eye(3, device=x.device)[..., None, None])


def wrong_under_autocast(x):
    y = F.conv2d(x, torch.eye(3, device=x.device, dtype=x.dtype)[..., None, None])  # bfloat16 under autocast
    return torch.zeros_like(x).scatter(1, torch.arange(3, device=x.device).view(1, 3, 1, 1).expand_as(y), y)


def reverse_gradient(self, run, images):
    def turned(depth):
        if depth.requires_grad:
            depth.register_hook(torch.neg)
        return depth

    return mapped(run(images), turned)


def with_class_token(self, run, images):
    return mapped(run(images), lambda tokens: torch.cat([tokens[:, :1], tokens], dim=1))


def half_size(self, image, **_):
    return Prediction(torch.zeros(1, 1, image.shape[-2] // 2, image.shape[-1] // 2), self.spec.space)


def graph(self, run, images):
    if isinstance(self, DepthModel):
        return DepthModel.forward(self, images)
    return self.encode(self.normalized(images))


def unused_parameter(self):
    self.unused = nn.Parameter(torch.zeros(3))


BROKEN_MODELS = [
    (MODELS, "builds", lambda kind: lambda: nn.Linear(1, 1), {}),
    (DEPTH, "answers", lambda kind: model(kind, forward=lambda s, run, x: mapped(run(x), lambda d: d[..., ::2, ::2])), {}),
    (("encoder",), "answers", lambda kind: model(kind, forward=lambda s, run, x: mapped(run(x), lambda t: t.flatten(1))), {}),
    (
        DEPTH,
        "finite",
        lambda kind: model(
            kind,
            forward=lambda s, run, x: mapped(run(x), lambda d: d + 0 / x.detach().std((1, 2, 3), keepdim=True).to(d.dtype)),
        ),
        {},
    ),
    (DEPTH, "value_range", lambda kind: model(kind, spec={"range": (0, 0.001)}), {}),
    (MODELS, "licence", lambda kind: model(kind, spec={"license": "unknown"}), {}),
    (MODELS, "odd_sizes", lambda kind: model(kind, forward=refuse), {}),
    (DEPTH, "odd_sizes", lambda kind: model(kind, forward=crop), {}),
    (MODELS, "features", lambda kind: model(kind, spec={"features": {"somewhere": 3}}), {}),
    (MODELS, "features", lambda kind: model(kind, spec={"features": {"tokens": 5}}), {}),
    (MODELS, "state_dict", lambda kind: model(kind, init=lambda s: setattr(s, "offset", float(torch.rand(())))), {}),
    (MODELS, "dtypes", lambda kind: model(kind, inside=float32_only), {}),
    (MODELS, "devices", lambda kind: model(kind, init=lambda s: setattr(s, "offset", torch.full((1,), 0.5))), {}),
    (MODELS, "autocast", lambda kind: model(kind, inside=wrong_under_autocast), {}),
    (DEPTH, "predict", lambda kind: model(kind, predict=half_size), {}),
    (DEPTH, "export", lambda kind: model(kind, forward=branch), {"exportable": True}),
    (("teacher", "encoder"), "frozen", lambda kind: model(kind, forward=graph), {}),
    (MODELS, "deterministic", lambda kind: model(kind, forward=lambda s, run, x: mapped(run(x), lambda d: d + counts(s))), {}),
    (MODELS, "input_untouched", lambda kind: model(kind, forward=clamp_in_place), {}),
    (
        MODELS,
        "batch_independent",
        lambda kind: model(kind, forward=lambda s, run, x: mapped(run(x), lambda d: d * (1.5 + x.detach().mean().to(d.dtype)))),
        {},
    ),
    (MODELS, "deep_copy", lambda kind: model(kind, init=lambda s: setattr(s, "lock", threading.Lock())), {}),
    (
        MODELS,
        "no_global_side_effects",
        lambda kind: model(kind, init=lambda s: setattr(torch.backends.cudnn, "benchmark", True)),
        {},
    ),
    (
        MODELS,
        "no_global_side_effects",
        lambda kind: model(kind, forward=lambda s, run, x: mapped(run(x), lambda d: d + 0 * torch.rand((), device=d.device))),
        {},
    ),
    (("student",), "gradients", lambda kind: model(kind, init=unused_parameter), {}),
    (("student",), "gradients", lambda kind: model(kind, forward=lambda s, run, x: mapped(run(x), torch.detach)), {}),
    (("student",), "learns", lambda kind: model(kind, forward=reverse_gradient), {}),
    (("student",), "train_and_eval", lambda kind: model(kind, train=lambda s, mode=True: nn.Module.train(s, True)), {}),
    (
        ("student",),
        "param_groups",
        lambda kind: model(kind, param_groups=lambda s: [{"name": "encoder", "params": list(s.encoder.parameters())}]),
        {},
    ),
    (("encoder",), "local_tokens", lambda kind: model(kind, forward=with_class_token), {}),
]


# -- normalizers and losses -------------------------------------------------------------------------------------------------


class Unguarded(ToyNormalizer):
    def _normalize(self, x, valid):
        x = x.where(valid, 0)
        centred = (x - x.sum((2, 3), keepdim=True) / valid.sum((2, 3), keepdim=True)).where(valid, 0)
        return centred / (centred.abs().sum((2, 3), keepdim=True) / valid.sum((2, 3), keepdim=True))


class Multiplying(ToyNormalizer):
    def _normalize(self, x, valid):
        return super()._normalize(x, valid) + 0 * (x * valid).sum()


class NotDividing(ToyNormalizer):
    def _normalize(self, x, valid):
        x = x.where(valid, 0)
        return (x - x.sum((2, 3), keepdim=True) / valid.sum((2, 3), keepdim=True).clamp(min=1)).where(valid, 0)


class OverTheBatch(ToyNormalizer):
    def _normalize(self, x, valid):
        rows = [t.transpose(0, 1).reshape(1, 1, -1, t.shape[-1]) for t in (x, valid)]
        return super()._normalize(*rows).reshape(x.shape)


class Around(ToyNormalizer):
    """A toy whose answer is changed by ``change(self, answer, pred, target, mask)``."""

    change = None

    def __call__(self, pred, target, mask=None):
        return type(self).change(self, super().__call__(pred, target, mask), pred, target, mask)


def around(change):
    return type("Broken", (Around,), {"change": change})


def blank_in_place(self, answer, pred, target, mask):
    if mask is not None:
        pred.data[~mask] = 0
    return answer


BROKEN_NORMALIZERS = [
    ("builds", object, {}),
    ("answers", around(lambda s, answer, *_: answer[:2]), {}),
    ("weights", around(lambda s, answer, *_: (*answer[:2], answer[2] * 2)), {}),
    ("degenerate_maps", Unguarded, {}),
    ("masked_values", Multiplying, {}),
    ("gradients", around(lambda s, answer, *_: (answer[0].detach(), *answer[1:])), {}),
    ("invariances", NotDividing, {}),
    (
        "fast_path",
        type("Broken", (ToyNormalizer,), {"loss": lambda s, p, t, m=None, *, reduction="mean": (p - t).abs().mean()}),
        {},
    ),
    ("deterministic", around(lambda s, answer, *_: (answer[0] + counts(s), *answer[1:])), {}),
    ("input_untouched", around(blank_in_place), {}),
    ("batch_independent", OverTheBatch, {}),
    ("no_global_side_effects", around(lambda s, answer, *_: (answer[0] + 0 * torch.rand(()), *answer[1:])), {}),
]


class AroundLoss(ToyLoss):
    change = None

    def forward(self, pred, target, mask=None):
        return type(self).change(self, super().forward, pred, target, mask)


def loss(change, **attributes):
    return type("Broken", (AroundLoss,), {"change": change, **attributes})


class TwoRoutes(ToyLoss):
    def __init__(self, backend: str = "auto"):
        super().__init__(0.1 if backend == "reference" else 0.5)


def no_clamp(self, run, pred, target, mask):
    return run(pred, target, mask) * (mask.sum() / mask.sum() if mask is not None else 1)


def multiplied(self, run, pred, target, mask):
    return run(pred * (1 if mask is None else mask), target, mask) + 0 * (pred * (1 if mask is None else mask)).sum()


def with_offset(self, run, pred, target, mask):
    return run(pred + 1000, target + 1000, mask)  # in the input's dtype: bfloat16 has no digits left


BROKEN_LOSSES = [
    ("builds", lambda: 3, {}),
    ("answers", loss(lambda s, run, p, t, m: run(p, t, m).expand(2)), {}),
    ("no_mask", loss(lambda s, run, p, t, m: run(p, t, m) * (2 if m is None else 1)), {}),
    ("empty_mask", loss(no_clamp), {}),
    ("masked_values", loss(multiplied), {}),
    ("gradient_is_true", loss(lambda s, run, p, t, m: run((p + p.detach()) / 2, t, m)), {}),
    ("precisions", loss(with_offset), {}),
    (
        "awkward_shapes",
        loss(
            lambda s, run, p, t, m: run(
                p.view(p.shape[0], 1, 1, -1), t.flatten(2)[:, :, None], m if m is None else m.flatten(2)[:, :, None]
            )
        ),
        {},
    ),
    ("invariances", ToyLoss, {"invariances": ("shift",)}),
    ("invariances", type("Broken", (ToyLoss,), {"invariances": ("scale",)}), {}),
    ("backends", TwoRoutes, {}),
    ("deterministic", loss(lambda s, run, p, t, m: run(p, t, m) * counts(s)), {}),
    ("input_untouched", loss(lambda s, run, p, t, m: blank_in_place(s, run(p, t, m), p, t, m)), {}),
    ("no_global_side_effects", loss(lambda s, run, p, t, m: run(p, t, m) + 0 * torch.rand(())), {}),
]


# -- context samplers and datasets ------------------------------------------------------------------------------------------


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

ROWS = [
    *((kind, name, make(kind), settings) for kinds, name, make, settings in BROKEN_MODELS for kind in kinds),
    *(("normalizer", *row) for row in BROKEN_NORMALIZERS),
    *(("loss", *row) for row in BROKEN_LOSSES),
    *(("context", *row) for row in BROKEN_SAMPLERS),
    *(("dataset", *row) for row in BROKEN_DATASETS),
]


def outcomes(results, outcome=Outcome.FAILED):
    return {result.check: result.message for result in results if result.outcome is outcome}


@pytest.mark.parametrize("kind", list(TOYS))
def test_good_toys_pass_everything(kind):
    results = check_component(kind, TOYS[kind])
    assert outcomes(results) == {}
    assert len(outcomes(results, Outcome.PASSED)) >= len(results) - 3


@pytest.mark.parametrize(("kind", "name", "toy", "settings"), ROWS, ids=[f"{kind}-{name}" for kind, name, *_ in ROWS])
def test_a_broken_toy_is_caught_by_its_check_and_no_other(kind, name, toy, settings):
    failed = outcomes(check_component(kind, toy, **settings))
    assert set(failed) == {name}, failed
    assert failed[name].endswith(".")
    assert len(failed[name]) > 40


@pytest.mark.parametrize("kind", MODELS)
def test_untrue_metadata_are_caught(kind):
    subject = make_subject(kind, TOYS[kind])
    subject.component = Component(kind, "acme/toy", "acme:Toy", 1, "acme", "dadkit-acme", "0.1", size_multiple=14)
    assert set(outcomes(run_checks(subject, checks_of(kind), {}))) == {"metadata"}


def test_every_check_has_its_broken_toy():
    proven = {(kind, name) for kind, name, *_ in ROWS} | {(kind, "metadata") for kind in MODELS}
    proven |= {("plugin", name) for name in BROKEN_PLUGINS}
    every = {(kind, name) for kind in (*TOYS, "plugin") for name in checks_of(kind)}
    assert proven == every


# -- plugins ----------------------------------------------------------------------------------------------------------------

ENTRY = """
import dadkit
{more}
@dadkit.hookimpl
def register_teachers(register):
    register("toy", "farm_dadkit_acme.code:{target}", api=1, summary="{summary}", license="{license}", {config})
"""
CODE = '''
from dadkit.testing.toy import ToyTeacher

class Toy(ToyTeacher):
    """A toy.

    Args:
        detail: how much brightness counts.
    """

class Silent(ToyTeacher):
    def __init__(self, strength: float = 1.0):
        super().__init__(strength)

class Odd(ToyTeacher):
    def __init__(self, action):
        super().__init__()
'''
OPTIONS = """
import secrets
from pydantic import BaseModel, Field

class Options(BaseModel):
    action: int = Field(default_factory=lambda: secrets.randbelow(10**9), description="what to do")
"""
GOOD_PLUGIN = {"more": "", "target": "Toy", "summary": "a toy", "license": "CC0-1.0", "config": ""}
BROKEN_PLUGINS = {
    "loads": {"more": "import a_package_that_nobody_has"},
    "light_entry": {"more": "import torch"},
    "targets": {"target": "Toi"},
    "summaries": {"summary": " "},
    "licences": {"license": "Apache2"},
    "described_options": {"target": "Silent"},
    "options_round_trip": {"target": "Odd", "config": 'config="farm_dadkit_acme.options:Options"'},
    "version_range": {"requires": ["dadkit"]},
}


def checked(plugin_farm, change):
    values = GOOD_PLUGIN | {"requires": ["dadkit>=0.1,<0.2"]} | change
    requires = values.pop("requires")
    plugin_farm.add("acme", ENTRY.format(**values), modules={"code": CODE, "options": OPTIONS}, requires=requires)
    return check_plugin("acme", registry=plugin_farm.registry())


def test_a_good_plugin_passes_everything(plugin_farm):
    results = checked(plugin_farm, {})
    assert outcomes(results) == outcomes(results, Outcome.SKIPPED) == {}


@pytest.mark.parametrize("name", list(BROKEN_PLUGINS))
def test_a_broken_plugin_is_caught_by_its_check_and_no_other(plugin_farm, name):
    failed = outcomes(checked(plugin_farm, BROKEN_PLUGINS[name]))
    assert set(failed) == {name}, failed
