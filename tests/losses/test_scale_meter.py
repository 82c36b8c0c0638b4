"""The typical scale of a source of maps: measured once, by the scale anchor and by the training engine alike."""

from __future__ import annotations

import math

import pytest
import torch

from dadkit.losses import ScaleMeter
from dadkit.losses.scale import scale_of


def deviation(x):
    x = x.flatten()
    return (x - x.sort().values[(len(x) - 1) // 2]).abs().mean().item()


def test_it_takes_the_lower_median_of_the_logs():
    meter = ScaleMeter(64)
    maps = torch.rand(6, 1, 5, 5)
    maps[2] = 3.0  # constant: skipped
    meter.observe(maps)
    logs = sorted(math.log(deviation(maps[i])) for i in (0, 1, 3, 4, 5))
    assert meter.value().item() == pytest.approx(math.exp(logs[2]), rel=1e-5)
    meter.observe(maps[:1])
    logs = sorted([*logs, math.log(deviation(maps[0]))])
    assert meter.value().item() == pytest.approx(math.exp(logs[2]), rel=1e-5)


def test_it_stops_at_its_number_of_maps():
    meter, maps = ScaleMeter(3), torch.rand(5, 4, 4)
    meter.observe(maps[:2])
    meter.observe(100 * maps[2:])
    assert meter.count.item() == 3
    assert meter.value().item() == pytest.approx(sorted([*map(deviation, maps[:2]), deviation(100 * maps[2])])[1], rel=1e-5)


def test_masked_pixels_do_not_count():
    meter = ScaleMeter()
    maps = torch.rand(1, 1, 6, 6)
    mask = torch.zeros_like(maps, dtype=torch.bool)
    mask[..., :3] = True
    meter.observe(maps.masked_fill(~mask, torch.nan), mask)
    assert meter.value().item() == pytest.approx(deviation(maps[mask]), rel=1e-5)


def test_bad_and_empty_maps_are_not_measured():
    meter = ScaleMeter()
    maps = torch.rand(3, 4, 4)
    maps[0, 0, 0] = torch.nan
    mask = torch.ones_like(maps, dtype=torch.bool)
    mask[1] = False
    meter.observe(maps, mask)
    assert meter.count.item() == 1
    assert ScaleMeter().value().item() == 1


def test_constancy_is_relative_to_the_magnitude():
    maps = torch.tensor([1e6, 1e6, 1e6, 1e6 + 0.0625]).view(1, 1, 2, 2).repeat(2, 1, 1, 1)
    maps[1] -= 1e6
    assert scale_of(maps, None)[1].tolist() == [True, False]


def test_it_needs_a_map():
    with pytest.raises(ValueError, match="at least one map, got 0"):
        ScaleMeter(0)
