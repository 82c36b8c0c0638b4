"""Normalizers and losses that are broken on purpose, in one way, which one check catches and no other."""

from __future__ import annotations

import torch

from dadkit.testing.toy import ToyLoss, ToyNormalizer

TOYS = {"normalizer": ToyNormalizer, "loss": ToyLoss}


def counts(self):
    self.calls = getattr(self, "calls", 0) + 1
    return self.calls


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

ROWS = [*(("normalizer", *row) for row in BROKEN_NORMALIZERS), *(("loss", *row) for row in BROKEN_LOSSES)]


def test_good_toys_pass_everything(passes, kind):
    passes(kind, TOYS[kind])


def test_a_broken_toy_is_caught_by_its_check_and_no_other(is_caught, row):
    is_caught(*row)


def test_every_check_has_its_broken_toy(proves_every_check, kind):
    proves_every_check(kind, ROWS)
