"""The typical scale of teachers, labels and student, measured before the first step."""

from __future__ import annotations

import pytest
import torch

from dadkit.losses import ScaleMeter
from dadkit.training.calibration import calibrate
from dadkit.training.compose import combine
from dadkit.training.labels import Labeller, labelled_target, to_float
from dadkit.training.scale import LABELS, ScaleError, SourceScales, measured


def deviation(x):
    x = x.flatten()
    return (x - x.sort().values[(len(x) - 1) // 2]).abs().mean().item()


def test_a_source_of_constant_maps_is_refused_with_a_reason():
    meter = ScaleMeter(4)
    meter.observe(torch.full((2, 1, 4, 4), 7.0))
    with pytest.raises(ScaleError, match="all first maps of teacher 'x' are constant"):
        measured(meter, "teacher 'x'")
    meter.observe(torch.rand(2, 1, 4, 4))
    assert measured(meter, "teacher 'x'") == meter.value().item()


def test_calibration_measures_every_source_and_loses_no_iteration(toys):
    student = toys.Student()
    teachers = (Labeller("big", toys.Teacher(scale=50.0)), Labeller("small", toys.Teacher(scale=0.5)))
    data = toys.Data(4, labelled=2)
    stage = toys.stage(combine(anchor=0.1), student=student, teachers=teachers, data=data, warmup_maps=64)
    scales, batches = calibrate(stage, data.iterations(0), parts=1)
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
    class Perturbed(toys.Data):
        def read(self, step):
            data = super().read(step)
            return replaced(data, unlabelled=replaced(data.unlabelled, student_images=255 - data.unlabelled.images))

    data = Perturbed(4)
    stage = replaced(toys.stage(combine(anchor=0.1), data=data, warmup_maps=64), student_is_trained=True)
    scales, _ = calibrate(stage, data.iterations(0), parts=1)
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
