"""Metrics against plain loops in float64 that were written for this test alone."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.evaluation.metrics import METRICS, depth_metrics


def _by_hand(prediction, truth, valid) -> dict[str, float]:
    pairs = [
        (p, g)
        for p, g, v in zip(prediction.flatten().tolist(), truth.flatten().tolist(), valid.flatten().tolist(), strict=True)
        if v
    ]
    n = len(pairs)
    result = {
        "abs_rel": sum(abs(p - g) / g for p, g in pairs) / n,
        "sq_rel": sum((p - g) ** 2 / g for p, g in pairs) / n,
        "rmse": math.sqrt(sum((p - g) ** 2 for p, g in pairs) / n),
        "rmse_log": math.sqrt(sum((math.log(p) - math.log(g)) ** 2 for p, g in pairs) / n),
        "log10": sum(abs(math.log10(p) - math.log10(g)) for p, g in pairs) / n,
    }
    for k in (1, 2, 3):
        result[f"delta{k}"] = sum(max(p / g, g / p) < 1.25**k for p, g in pairs) / n
    return result


@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.05, 0.5, 2.0]))
@settings(max_examples=30, deadline=None)
def test_equal_to_plain_loops(seed, spread):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(2, 6, 5, generator=generator, dtype=torch.float64) * 20 + 0.1
    prediction = truth * (torch.randn(2, 6, 5, generator=generator, dtype=torch.float64) * spread).exp()
    valid = torch.rand(2, 6, 5, generator=generator) > 0.4
    valid[:, 0, 0] = True
    metrics = depth_metrics(prediction, truth, valid)
    for i in range(2):
        expected = _by_hand(prediction[i], truth[i], valid[i])
        assert {name: metrics[name][i].item() for name in METRICS} == pytest.approx(expected, rel=1e-12)


def test_truth_against_itself_is_perfect():
    truth = torch.rand(2, 8, 8) + 0.5
    metrics = depth_metrics(truth, truth, torch.ones(2, 8, 8, dtype=torch.bool))
    assert all(metrics[name].tolist() == [0, 0] for name in METRICS if not name.startswith("delta"))
    assert all(metrics[name].tolist() == [1, 1] for name in METRICS if name.startswith("delta"))


def test_poison_outside_the_mask_does_not_leak():
    truth = torch.rand(1, 4, 4) + 0.5
    valid = torch.ones(1, 4, 4, dtype=torch.bool)
    valid[0, 0] = False
    poisoned = truth.clone()
    poisoned[0, 0] = torch.nan
    clean = depth_metrics(truth * 1.1, truth, valid)
    dirty = depth_metrics((truth * 1.1).where(valid, torch.inf), poisoned, valid)
    assert all(torch.equal(clean[name], dirty[name]) for name in METRICS)


def test_no_valid_pixel_is_nan():
    truth = torch.ones(1, 2, 2)
    metrics = depth_metrics(truth, truth, torch.zeros(1, 2, 2, dtype=torch.bool))
    assert all(math.isnan(metrics[name].item()) for name in METRICS)
