"""Bootstrap intervals, paired comparison, sums over processes."""

import math

import numpy as np
import pytest
import torch

from dadkit.evaluation.intervals import Tally, bootstrap_mean, compare


def test_bootstrap_interval_is_near_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 400)
    interval = bootstrap_mean(values.tolist())
    half = 1.96 * values.std() / 20
    assert interval.low == pytest.approx(values.mean() - half, abs=0.04)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.04)
    assert bootstrap_mean(values.tolist()) == interval  # seeded
    one = bootstrap_mean([4.0])
    assert one.low == one.high == 4


def test_intervals_hold_the_mean_as_often_as_they_say():
    rng = np.random.default_rng(1)
    inside = 0
    for _ in range(200):
        interval = bootstrap_mean(rng.exponential(1.0, 80).tolist(), resamples=400)
        inside += interval.low <= 1 <= interval.high
    assert 0.87 <= inside / 200 <= 0.98


def test_a_small_constant_difference_is_found_where_the_means_overlap():
    rng = np.random.default_rng(2)
    hard = rng.exponential(1.0, 60)
    first = {str(i): v for i, v in enumerate(hard)}
    second = {str(i): v + 0.02 + 0.001 * rng.normal() for i, v in enumerate(hard)}
    second["only here"] = 100.0
    result = compare(first, second)
    assert result.images == 60
    assert result.difference == pytest.approx(-0.02, abs=1e-3)
    assert result.interval.high < 0
    assert result.p_value < 0.01
    assert (result.first_lower, result.second_lower) == (1, 0)


def test_equal_models_are_not_told_apart():
    values = {str(i): float(i) for i in range(20)}
    result = compare(values, values)
    assert result.p_value == 1
    assert result.difference == result.interval.low == result.interval.high == 0
    assert compare(values, {"other": 1.0}) is None


def test_tallies_add_up_to_the_mean_over_all_images():
    rows = [{"a": float(i), "b": i / 7} for i in range(11)]
    shards = [Tally(), Tally(), Tally()]
    for index, row in enumerate(rows):
        shards[index % 2].add(row)  # the third process has no image
    total = shards[0] + shards[1] + shards[2]
    assert total.count == 11
    assert total.mean() == pytest.approx({"a": 5.0, "b": 5 / 7})
    assert total.all_reduce() is total  # one process
    with pytest.raises(ValueError, match="same metrics"):
        total.add({"a": 1.0})


def _reduce(rank: int, file: str, queue) -> None:
    torch.distributed.init_process_group("gloo", init_method=f"file://{file}", rank=rank, world_size=2)
    tally = Tally()
    for value in [1.0, 2.0, 6.0] if rank == 0 else []:
        tally.add({"x": value})
    queue.put(tally.all_reduce().mean())
    torch.distributed.destroy_process_group()


def test_tallies_over_processes(tmp_path):
    import multiprocessing

    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    processes = [context.Process(target=_reduce, args=(rank, str(tmp_path / "store"), queue)) for rank in range(2)]
    for process in processes:
        process.start()
    found = [queue.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert found == [{"x": 3.0}] * 2


def test_the_mean_of_nothing_is_nan():
    assert Tally().mean() == {}
    assert math.isnan(Tally(0, {"a": 0.0}).mean()["a"])
