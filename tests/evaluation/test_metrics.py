"""Metrics against plain loops in float64 that were written for this test alone."""

import math
import statistics

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dadkit.evaluation.metrics import (
    BOUNDARY_THRESHOLDS,
    DEPTH_METRICS,
    METRICS,
    boundary_f1,
    find_metric,
    measure,
    ordinal_metrics,
    whdr_of_depth,
)
from dadkit.interfaces import Prediction
from dadkit.spaces import Space


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
    result["delta_1.05"] = sum(max(p / g, g / p) < 1.05 for p, g in pairs) / n
    result["bad1"] = 100 * sum(max(p / g, g / p) > 1.25 for p, g in pairs) / n
    result["mae"] = sum(abs(p - g) for p, g in pairs) / n
    result["irmse"] = math.sqrt(sum((1 / p - 1 / g) ** 2 for p, g in pairs) / n)
    result["imae"] = sum(abs(1 / p - 1 / g) for p, g in pairs) / n
    result["irmse_km"], result["imae_km"] = 1000 * result["irmse"], 1000 * result["imae"]
    top = max(g for _, g in pairs)
    result["rmse_norm"], result["mae_norm"] = result["rmse"] / top, result["mae"] / top
    logs = [math.log(p) - math.log(g) for p, g in pairs]
    mean = sum(logs) / n
    result["silog_1"] = math.sqrt(sum((r - mean) ** 2 for r in logs) / n)
    result["silog_1_x100"] = 100 * result["silog_1"]
    for lam in (0.5, 0.85, 0.3):
        result[f"silog_{lam}"] = math.sqrt(sum(r * r for r in logs) / n - lam * mean * mean)
    median = statistics.median_low(g for _, g in pairs)
    result["ssi_mae"] = result["mae"] / (sum(abs(g - median) for _, g in pairs) / n)
    result["ssi_rmse"] = result["rmse"] / statistics.pstdev(g for _, g in pairs)
    result["correlation"] = statistics.correlation(*zip(*pairs, strict=True))
    return result


def depth_metrics(prediction, truth, valid, names=METRICS) -> dict[str, torch.Tensor]:
    """The metrics of each image of a batch of (B, H, W) maps."""
    rows = [
        measure(p[v].double(), g[v].double(), names, lambda maps=(p, g, v): maps)
        for p, g, v in zip(prediction, truth, valid, strict=True)
    ]
    return {name: torch.tensor([row[name] for row in rows], dtype=torch.float64) for name in names}


@given(seed=st.integers(0, 10_000), spread=st.sampled_from([0.05, 0.5, 2.0]))
@settings(max_examples=30, deadline=None)
def test_equal_to_plain_loops(seed, spread):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(2, 6, 5, generator=generator, dtype=torch.float64) * 20 + 0.1
    prediction = truth * (torch.randn(2, 6, 5, generator=generator, dtype=torch.float64) * spread).exp()
    valid = torch.rand(2, 6, 5, generator=generator) > 0.4
    valid[:, 0, 0] = True
    names = list(_by_hand(prediction[0], truth[0], valid[0]))
    assert set(METRICS) <= set(names)
    assert set(DEPTH_METRICS) <= {*names, "whdr", "boundary_f1"}
    metrics = depth_metrics(prediction, truth, valid, names)
    for i in range(2):
        expected = _by_hand(prediction[i], truth[i], valid[i])
        assert {name: metrics[name][i].item() for name in names} == pytest.approx(expected, rel=1e-11)


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


def _f1_by_hand(prediction, truth, valid) -> float:
    height, width = truth.shape
    total = 0.0
    for threshold in BOUNDARY_THRESHOLDS:
        hits = predicted = true = 0
        for y in range(height):
            for x in range(width):
                for j, i in ((y, x + 1), (y + 1, x)):
                    if j >= height or i >= width or not (valid[y, x] and valid[j, i]):
                        continue
                    for a, b in (((y, x), (j, i)), ((j, i), (y, x))):  # both directions
                        p = float(prediction[b]) / float(prediction[a]) > 1 + threshold
                        t = float(truth[b]) / float(truth[a]) > 1 + threshold
                        hits, predicted, true = hits + (p and t), predicted + p, true + t
        if predicted + true:
            precision, recall = hits / max(predicted, 1), hits / max(true, 1)
            total += threshold * (2 * precision * recall / (precision + recall) if hits else 0.0)
        else:
            total += threshold
    return total / sum(BOUNDARY_THRESHOLDS)


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_boundary_f1_equals_plain_loops(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = (torch.rand(7, 8, generator=generator) * 3).floor() + 1
    prediction = truth * (0.1 * torch.randn(7, 8, generator=generator)).exp()
    valid = torch.rand(7, 8, generator=generator) > 0.2
    assert boundary_f1(prediction, truth, valid).item() == pytest.approx(_f1_by_hand(prediction, truth, valid), rel=1e-12)


def test_blurred_edges_lose_boundary_f1_and_keep_abs_rel():
    truth = torch.ones(1, 32, 32)
    truth[..., 16:] = 2
    blurred = torch.nn.functional.avg_pool2d(truth, 5, 1, 2, count_include_pad=False)
    valid = torch.ones_like(truth, dtype=torch.bool)
    sharp = depth_metrics(truth, truth, valid, ["boundary_f1", "abs_rel"])
    soft = depth_metrics(blurred, truth, valid, ["boundary_f1", "abs_rel"])
    assert sharp["boundary_f1"].item() == 1
    assert soft["boundary_f1"].item() < 0.5
    assert soft["abs_rel"].item() < 0.05
    assert boundary_f1(truth[0] * 7, truth[0], valid[0]) == 1  # a factor changes nothing


@given(seed=st.integers(0, 10_000))
@settings(max_examples=10, deadline=None)
def test_metrics_do_not_depend_on_the_order_of_pixels_and_deltas_grow(seed):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.rand(1, 5, 9, generator=generator, dtype=torch.float64) * 20 + 0.1
    prediction = truth * torch.randn(1, 5, 9, generator=generator, dtype=torch.float64).exp()
    valid = torch.rand(1, 5, 9, generator=generator) > 0.3
    valid[0, 0, 0] = True
    order = torch.randperm(45, generator=generator)
    shuffled = [x.flatten(1)[:, order].view(1, 5, 9) for x in (prediction, truth, valid)]
    names = [name for name in DEPTH_METRICS if name not in ("whdr", "boundary_f1")]
    first, second = depth_metrics(prediction, truth, valid, names), depth_metrics(*shuffled, names)
    for name in names:
        assert first[name].item() == pytest.approx(second[name].item(), rel=1e-9, abs=1e-12)
    deltas = depth_metrics(prediction, truth, valid, ["delta_1.01", "delta_1.1", "delta1", "delta2", "delta3"])
    values = [value.item() for value in deltas.values()]
    assert values == sorted(values)


def test_a_delta_is_strict():
    truth = torch.full((1, 1, 2), 4.0)
    prediction = torch.tensor([[[5.0, 4.0]]])  # 5 / 4 is exactly 1.25
    metrics = depth_metrics(prediction, truth, torch.ones(1, 1, 2, dtype=torch.bool), ["delta1", "bad1"])
    assert metrics["delta1"].item() == 0.5
    assert metrics["bad1"].item() == 0


@pytest.mark.parametrize("name", ["silog", "silog_2", "delta_0.9", "absrel", "delta4"])
def test_unknown_metrics_are_refused(name):
    with pytest.raises(KeyError):
        find_metric(name)


def test_whdr_of_dense_maps():
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(2000, generator=generator, dtype=torch.float64) * 5 + 1
    assert whdr_of_depth(truth, truth) == 0
    assert whdr_of_depth(7 * truth, truth) == 0
    upside_down = whdr_of_depth(1 / truth, truth).item()
    assert upside_down > 0.9  # all but the pairs that are equal within 2 %
    assert 0.5 < whdr_of_depth(torch.rand(2000, generator=generator, dtype=torch.float64), truth).item() < 0.6


@pytest.mark.parametrize("space", list(Space))
def test_annotated_pairs(space):
    # columns 0..9; nearer to the left
    depth = torch.arange(1.0, 11.0).expand(4, 10)[None, None]
    values = 1 / depth if space is Space.DISPARITY else depth
    points = torch.tensor(
        [[[0.0, 2.0], [0.0, 5.0]], [[1.0, 9.0], [1.0, 1.0]], [[2.0, 3.0], [3.0, 3.0]], [[0.0, 8.0], [0.0, 1.0]]]
    )
    nearer = torch.tensor([0, 1, 0, 0])  # right, right, a tie, and one that the annotators see the other way round
    found = ordinal_metrics(Prediction(values, space), points, nearer)
    assert found == {"pair_accuracy": 0.5, "whdr": 0.5}
    weighted = ordinal_metrics(Prediction(values, space), points, nearer, torch.tensor([3.0, 3.0, 1.0, 1.0]))
    assert weighted["whdr"] == pytest.approx(0.25)
    constant = ordinal_metrics(Prediction(torch.ones_like(values), space), points, nearer)
    assert constant["pair_accuracy"] == 0
