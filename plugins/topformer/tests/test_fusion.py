"""Folded batch norms: the same function, none left, and nothing done to the original."""

from __future__ import annotations

import copy

import pytest
import torch
from dadkit_topformer.network import fold_batch_norms
from dadkit_topformer.sizes import SIZES
from torch import nn


def norms(model: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in model.modules())


@pytest.mark.parametrize("injection", ["all", "official", "none"])
@pytest.mark.parametrize("size", SIZES)
def test_the_function_stays_and_no_norm_is_left(build, size, injection):
    model = build(size, injection=injection)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused = model.fuse()
    x = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected, answer = model(x), fused(x)
    scale = expected.depth.abs().max()
    assert (answer.depth - expected.depth).abs().max() <= 1e-6 * max(scale, 1)
    tokens = expected.features["tokens"]  # behind softmaxes without a scale, which amplify rounding
    assert (answer.features["tokens"] - tokens).abs().max() <= 1e-5 * tokens.abs().max()
    assert norms(model) > 50
    assert norms(fused) == 0
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_it_is_exact_in_float64(build):
    model = build("base").double()
    x = torch.rand(1, 3, 64, 64, dtype=torch.float64)
    with torch.inference_mode():
        expected = model.backbone(x)
        answer = model.fuse().backbone(x)
    for one, other in zip([*expected[0], expected[1]], [*answer[0], answer[1]], strict=True):
        assert (one - other).abs().max() < 1e-12 * one.abs().max()


def test_a_model_in_training_is_fused_as_it_predicts(build):
    model = build("tiny", drop_path=0.5).train()
    x = torch.rand(1, 3, 64, 64)
    fused = model.fuse()
    assert model.training
    assert not fused.training
    assert not any(p.requires_grad for p in fused.parameters())
    with torch.inference_mode():
        assert torch.allclose(fused(x).depth, copy.deepcopy(model).eval()(x).depth, atol=1e-5)
    assert fused.predict(x[0]).depth.shape == (1, 1, 64, 64)


def test_names_do_not_move(build):
    model = build("tiny")
    fused = model.fuse().state_dict()
    assert {name for name in model.state_dict() if name.endswith("c.weight")} <= fused.keys()
    assert fused["decoder.output.0.bias"].shape == (16,)


def test_a_norm_without_a_convolution_is_an_error():
    with pytest.raises(ValueError, match="no convolution stands before the batch norms 1"):
        fold_batch_norms(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)))
