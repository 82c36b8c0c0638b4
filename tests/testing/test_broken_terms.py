"""Each check on terms finds the mistake that it is there for, and lets the toy pass."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from dadkit.interfaces import Term
from dadkit.testing import check_term
from dadkit.testing.toy import ToyTerm


def broken(change, **attributes):
    """The toy with its answer changed: ``change(term, answer, inputs)``."""
    body = {"forward": lambda self, inputs: change(self, ToyTerm.forward(self, inputs), inputs), **attributes}
    return type("Broken", (ToyTerm,), body)


def leaky(term, answer, inputs):
    pair = inputs.maps
    return answer + 0 * ((pair.pred - pair.target) * pair.mask).sum()


class Sums(ToyTerm):
    def forward(self, inputs):
        return super().forward(inputs) * inputs.images


class Forgets(ToyTerm):
    def __init__(self):
        super().__init__()
        self.factor = 1 + torch.rand(()).item()

    def forward(self, inputs):
        return super().forward(inputs) * self.factor


class EveryInput(Term):
    """Takes all that a step has; on cameras it only looks whether they are there."""

    needs = frozenset({"patches", "teachers", "features", "cameras"})

    def __init__(self):
        super().__init__()
        self.mix = nn.Linear(8, 8)

    def forward(self, inputs):
        value = nn.functional.mse_loss(self.mix(inputs.features.student["tokens"]), inputs.features.reference["tokens"])
        patches = inputs.patches.sampled()
        pairs = [patches, *inputs.teachers.values()]
        assert all(pair.intrinsics is not None for pair in inputs.teachers.values())
        return value + sum(((pair.pred - pair.target).where(pair.mask, 0) ** 2).mean() for pair in pairs)


@pytest.mark.parametrize(
    ("check", "term"),
    [
        ("builds", nn.Identity),
        ("builds", type("Broken", (ToyTerm,), {"needs": frozenset({"depth"})})),
        ("builds", type("Broken", (ToyTerm,), {"needs": frozenset({"scale"})})),
        ("answers", broken(lambda term, answer, inputs: answer.expand(2))),
        ("answers", broken(lambda term, answer, inputs: answer / 0)),
        ("answers", broken(lambda term, answer, inputs: answer.detach())),
        ("deterministic", broken(lambda term, answer, inputs: answer * torch.rand(()))),
        ("gradient_is_finite", broken(lambda term, answer, inputs: answer + (0 * inputs.maps.pred).sqrt().sum())),
        ("masked_values", broken(leaky)),
        ("parts_add_up", Sums),
        ("checks", type("Broken", (ToyTerm,), {"check": lambda self, student, teachers: [1]})),
        ("round_trip", Forgets),
    ],
)
def test_a_broken_term_is_found(check, term):
    failed = {result.check for result in check_term(term) if result.outcome == "failed"}
    assert check in failed


@pytest.mark.parametrize("term", [ToyTerm, EveryInput])
def test_a_whole_term_passes(term):
    assert [result for result in check_term(term) if result.outcome == "failed"] == []
