"""Learning rates, groups, the skipped step, the moving average."""

from __future__ import annotations

import math

import pytest
import torch

from dadkit.config.schema import OptimConfig
from dadkit.training.optim import build_ema, build_optimizer, clip_gradients, rate_factor, set_rates, update_ema


@pytest.mark.parametrize(("schedule", "half"), [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5), ("poly", 0.5**0.9)])
def test_schedules(schedule, half):
    config = OptimConfig(schedule=schedule, warmup=10)
    assert [rate_factor(config, step, 110) for step in (0, 4, 9)] == pytest.approx([0.1, 0.5, 1.0])
    assert rate_factor(config, 10, 110) == pytest.approx(1.0)
    assert rate_factor(config, 60, 110) == pytest.approx(half)
    factors = [rate_factor(config, step, 110) for step in range(10, 110)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] > 0


def test_a_run_shorter_than_its_warmup_works():
    assert rate_factor(OptimConfig(warmup=100), 3, 5) == pytest.approx(0.04)


def test_groups_have_their_rates_and_biases_no_decay(toys):
    student, adapter = toys.Student(), torch.nn.Linear(6, 4)
    optimizer = build_optimizer(OptimConfig(lr=1e-3, weight_decay=0.1), student, step=adapter)
    rates = set_rates(optimizer, 0.5)
    assert rates == {"encoder": pytest.approx(5e-5), "decoder": pytest.approx(5e-4)}
    held = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert set(held) == {id(p) for p in [*student.parameters(), *adapter.parameters()]}
    assert held[id(student.encoder[0].weight)]["name"] == "encoder"
    assert held[id(adapter.weight)]["name"] == "decoder"
    assert held[id(student.head.weight)]["weight_decay"] == 0.1
    assert held[id(student.head.bias)]["weight_decay"] == 0.0


def test_encoder_rate_zero_freezes_the_encoder(toys):
    student = toys.Student()
    optimizer = build_optimizer(OptimConfig(encoder_lr=0.0), student)
    assert not any(p.requires_grad for p in student.encoder.parameters())
    assert {group["name"] for group in optimizer.param_groups} == {"decoder"}


def test_nothing_to_train_is_an_error(toys):
    student = toys.Student()
    for parameter in student.head.parameters():
        parameter.requires_grad_(False)
    with pytest.raises(ValueError, match="nothing to train"):
        build_optimizer(OptimConfig(encoder_lr=0.0), student)


@pytest.mark.parametrize("name", ["adamw", "adam"])
@pytest.mark.parametrize("bad", ["loss", "gradient"])
def test_a_non_finite_step_changes_nothing(toys, name, bad):
    student = toys.Student()
    optimizer = build_optimizer(OptimConfig(name=name), student)

    def step(loss, poison=False):
        for parameter in student.parameters():
            parameter.grad = torch.full_like(parameter, 0.1)
        if poison:
            student.head.bias.grad[0] = math.nan
        norm, finite = clip_gradients(optimizer, torch.tensor(loss), 1.0)
        optimizer.step()
        return norm, bool(finite)

    norm, finite = step(1.0)
    count = sum(p.numel() for p in student.parameters())
    assert finite
    assert norm.item() == pytest.approx(0.1 * count**0.5)
    weights = [p.detach().clone() for p in student.parameters()]
    moments = [value.clone() for state in optimizer.state.values() for value in state.values()]
    _, finite = step(math.inf if bad == "loss" else 1.0, poison=bad == "gradient")
    assert not finite
    assert all(torch.equal(a, b) for a, b in zip(weights, student.parameters(), strict=True))
    after = [value for state in optimizer.state.values() for value in state.values()]
    assert all(torch.equal(a, b) for a, b in zip(moments, after, strict=True))
    step(1.0)
    assert not any(torch.equal(a, b) for a, b in zip(weights, student.parameters(), strict=True))


def test_clipping_scales_to_the_norm(toys):
    student = toys.Student()
    optimizer = build_optimizer(OptimConfig(), student)
    for parameter in student.parameters():
        parameter.grad = torch.ones_like(parameter)
    clip_gradients(optimizer, torch.tensor(0.0), 0.5)
    total = torch.stack([p.grad.square().sum() for p in student.parameters()]).sum().sqrt()
    assert total.item() == pytest.approx(0.5, rel=1e-4)


def test_the_moving_average_follows_its_formula_and_carries_buffers(toys):
    student = toys.Student(norm=True)
    ema = build_ema(student, 0.6)
    mean = student.head.weight.detach().clone()
    for n in range(6):
        with torch.no_grad():
            student.head.weight.add_(1.0)
            student.encoder[1].running_mean.fill_(n)
        student.encoder[1].num_batches_tracked.fill_(n)
        update_ema(ema, student, 0.6)
        decay = 0.0 if n == 0 else min(0.6, (1 + n) / (10 + n))  # the first update copies
        mean = decay * mean + (1 - decay) * student.head.weight.detach()
    torch.testing.assert_close(ema.module.head.weight, mean)
    assert 0 < ema.module.encoder[1].running_mean[0] < 5
    assert ema.module.encoder[1].num_batches_tracked == 5


def test_no_average_unless_asked_for(toys):
    assert build_ema(toys.Student(), None) is None
