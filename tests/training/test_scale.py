"""The typical scale of teachers, labels and student, measured before the first step."""

from __future__ import annotations

import math

import pytest
import torch

from dadkit.training.calibration import calibrate
from dadkit.training.pairs import labelled_target, to_float
from dadkit.training.scale import LABELS, ScaleError, ScaleMeter, SourceScales, is_constant
from dadkit.training.step import Labeller
from dadkit.training.terms import Terms


def deviation(x):
    x = x.flatten()
    return (x - x.sort().values[(len(x) - 1) // 2]).abs().mean().item()


def test_the_meter_takes_the_lower_median_of_the_logs():
    meter = ScaleMeter("t")
    maps = torch.rand(6, 1, 5, 5)
    maps[2] = 3.0  # constant: skipped
    meter.add(maps)
    logs = sorted(math.log(deviation(maps[i])) for i in (0, 1, 3, 4, 5))
    assert meter.value() == pytest.approx(math.exp(logs[2]), rel=1e-5)


def test_masked_pixels_do_not_count():
    meter = ScaleMeter("t")
    maps = torch.rand(1, 1, 6, 6)
    mask = torch.zeros_like(maps, dtype=torch.bool)
    mask[..., :3] = True
    spoiled = maps.masked_fill(~mask, torch.nan)
    meter.add(spoiled, mask)
    assert meter.value() == pytest.approx(deviation(maps[mask]), rel=1e-5)


def test_constant_sources_are_refused_with_a_reason():
    meter = ScaleMeter("teacher 'x'")
    meter.add(torch.full((2, 1, 4, 4), 7.0))
    with pytest.raises(ScaleError, match="first 2 maps of teacher 'x' are constant"):
        meter.value()


def test_constancy_is_relative_to_the_magnitude():
    maps = torch.tensor([1e6, 1e6, 1e6, 1e6 + 0.0625]).view(1, 1, 2, 2).repeat(2, 1, 1, 1)
    maps[1] -= 1e6
    assert is_constant(maps, torch.tensor([deviation(m) for m in maps])).tolist() == [True, False]


def test_calibration_measures_every_source_and_loses_no_iteration(toys):
    student = toys.Student()
    teachers = (Labeller("big", toys.Teacher(scale=50.0)), Labeller("small", toys.Teacher(scale=0.5)))
    data = toys.Data(4, labelled=2)
    stage = toys.stage(Terms(anchor=0.1), student=student, teachers=teachers, data=data, warmup_maps=64)
    scales, batches = calibrate(stage, data.iterations(0))
    images = [data.read(step).unlabelled.images for step in range(16)]  # 64 images
    expected = sorted(deviation(to_float(image).mean(0)) for batch in images for image in batch)[31]
    assert scales.sources["big"] == pytest.approx(50 * expected, rel=1e-4)
    assert scales.sources["small"] == pytest.approx(0.5 * expected, rel=1e-4)
    maps = [labelled_target(data.read(step).labelled, student.spec.space)[0] for step in range(16)]
    assert scales.sources[LABELS] == pytest.approx(sorted(deviation(m) for b in maps for m in b)[15], rel=1e-4)
    assert scales.student == 1.0
    assert scales.factor("small") / scales.factor("big") == pytest.approx(100, rel=1e-4)
    read = [next(batches).keys for _ in range(20)]
    assert read == [data.read(step).keys for step in range(20)]


def test_a_trained_head_keeps_its_own_scale(toys, replaced):
    data = toys.Data(4)
    stage = replaced(toys.stage(Terms(anchor=0.1), data=data, warmup_maps=64), student_is_trained=True)
    scales, _ = calibrate(stage, data.iterations(0))
    with torch.no_grad():
        stage.student.eval()
        maps = [stage.student(to_float(data.read(step).unlabelled.images)).depth for step in range(16)]
    assert scales.student == pytest.approx(sorted(deviation(m) for b in maps for m in b)[31], rel=1e-4)
    assert stage.student.training is False


def test_scales_survive_a_checkpoint():
    scales = SourceScales({"a": 2.0, LABELS: 0.25}, 3.0)
    assert SourceScales.from_state_dict(scales.state_dict()) == scales
    assert scales.factor("a") == 1.5
    assert SourceScales().factor("anything") == 1.0
