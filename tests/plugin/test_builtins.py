"""The core's own components exist, take their defaults, and are what their kind promises."""

from __future__ import annotations

from importlib import import_module

import pytest
import torch

from dadkit.config.components import build
from dadkit.interfaces import Contexts, ContextSampler, Normalizer
from dadkit.plugin import Registry

CORE = Registry(distributions=[])


def names(kind):
    return [component.name for component in CORE.components(kind)]


@pytest.mark.parametrize("kind", ["normalizer", "context", "loss", "dataset", "exporter"])
def test_every_target_exists_and_is_described(kind):
    components = CORE.components(kind)
    assert components
    for component in components:
        module, _, name = component.target.partition(":")  # not by CORE.load: it asks for the packages of extras first
        assert callable(getattr(import_module(module), name)), component
        assert component.summary, component


@pytest.mark.parametrize("name", names("normalizer"))
def test_normalizers(name):
    normalizer = build("normalizer", name, {}, registry=CORE)
    assert isinstance(normalizer, Normalizer)
    pred, target = torch.rand(2, 2, 1, 12, 16, generator=torch.Generator().manual_seed(0))
    pred_n, target_n, weight = normalizer(pred, target, None)
    assert pred_n.shape == target_n.shape == weight.shape
    assert pred_n.shape[0] == 2
    assert pred_n.shape[2:] == (12, 16)


@pytest.mark.parametrize("name", names("context"))
def test_context_samplers(name):
    sampler = build("context", name, {}, registry=CORE)
    assert isinstance(sampler, ContextSampler)
    assert isinstance(sampler((700, 900), torch.Generator().manual_seed(0)), Contexts)


@pytest.mark.parametrize("name", names("loss"))
def test_losses_map_a_pair_of_maps_to_a_scalar(name):
    loss = build("loss", name, {}, registry=CORE)
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 2, 1, 24, 32, generator=generator)
    mask = torch.rand(2, 1, 24, 32, generator=generator) > 0.2
    value = loss(pred, target, mask)
    assert value.shape == ()
    assert value > 0
    assert loss(target, target, mask) < 1e-6  # equal up to the order in which float32 sums are taken
