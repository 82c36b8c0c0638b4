"""Teachers, students and encoders that are broken on purpose, in one way, which one check catches and no other."""

from __future__ import annotations

import threading
from dataclasses import replace

import torch
from torch import nn
from torch.nn import functional as F

from dadkit.interfaces import DepthModel, Prediction
from dadkit.plugin import Component
from dadkit.testing import checks_of
from dadkit.testing.run import run_checks
from dadkit.testing.subject import make_subject
from dadkit.testing.toy import ToyEncoder, ToyStudent, ToyTeacher

TOYS = {"teacher": ToyTeacher, "student": ToyStudent, "encoder": ToyEncoder}
MODELS = ("teacher", "student", "encoder")
DEPTH = ("teacher", "student")


def counts(self):
    self.calls = getattr(self, "calls", 0) + 1
    return self.calls


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

ROWS = [(kind, name, make(kind), settings) for kinds, name, make, settings in BROKEN_MODELS for kind in kinds]


def test_good_toys_pass_everything(passes, kind):
    passes(kind, TOYS[kind])


def test_a_broken_toy_is_caught_by_its_check_and_no_other(is_caught, row):
    is_caught(*row)


def test_untrue_metadata_are_caught(outcomes, kind):
    subject = make_subject(kind, TOYS[kind])
    subject.component = Component(kind, "acme/toy", "acme:Toy", 1, "acme", "dadkit-acme", "0.1", size_multiple=14)
    assert set(outcomes(run_checks(subject, checks_of(kind), {}))) == {"metadata"}


def test_every_check_has_its_broken_toy(proves_every_check, kind):
    proves_every_check(kind, ROWS, "metadata")
