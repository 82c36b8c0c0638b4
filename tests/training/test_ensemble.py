"""Several teachers: drawn per iteration, per image, or averaged."""

from __future__ import annotations

import pytest
import torch

from dadkit.losses import ssi_loss
from dadkit.normalizers import Global, Identity
from dadkit.spaces import Space
from dadkit.training.batches import Iteration, micro_batches
from dadkit.training.compose import Maps, combine
from dadkit.training.labels import Labeller, PseudoLabels, average, draw, drawn_names, to_float
from dadkit.training.scale import SourceScales
from dadkit.training.soundness import StageTerm, check_stage
from dadkit.training.step import DistillationStep
from dadkit.training.terms import FeatureTerm


def make(toys, terms, **options):
    teachers = (Labeller("a", toys.Teacher(), 0.7), Labeller("b", toys.Teacher(scale=-2.0, shift=9.0), 0.3))
    return DistillationStep(terms, space=Space.DISPARITY, teachers=teachers, **options)


def test_draws_are_stateless_and_in_proportion(toys):
    teachers = make(toys, combine()).teachers
    per_step = [draw(teachers, "iteration", 8, 0, "main", "teacher", step) for step in range(2000)]
    assert sum(per_step) / 2000 == pytest.approx(0.3, abs=0.03)
    per_image = draw(teachers, "sample", 2000, 0, "main", "teacher", 5)
    assert sum(per_image) / 2000 == pytest.approx(0.3, abs=0.03)
    assert per_image == draw(teachers, "sample", 2000, 0, "main", "teacher", 5)
    assert per_image[:8] == draw(teachers, "sample", 8, 0, "main", "teacher", 5)
    assert draw(teachers, "average", 8, 0, "main", "teacher", 5) is None
    assert drawn_names(teachers, 1) == ["b"]
    assert drawn_names(teachers, (0, 1, 0)) == ["a", "b", "a"]
    assert drawn_names(teachers, None) == ["average"]


def test_each_image_is_labelled_by_its_own_teacher(toys):
    student, batch = toys.Student(), toys.batch()
    step = make(toys, combine(shared=Maps(1.0, Global()), local_global=Maps(0.5, Global())))
    result = step(student, batch, teacher=(0, 1, 1, 0))
    light = to_float(batch.images).mean(1, keepdim=True)
    target = torch.cat([5 * light[:1] + 1, -2 * light[1:3] + 9, 5 * light[3:] + 1])
    expected = ssi_loss(student(to_float(batch.images)).depth, target)
    assert result.terms["shared"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert [call[0] for call in step.teachers[0].model.calls] == [2 + 4]
    seen = step.label(batch, (0, 1, 1, 0))
    inner = to_float(batch.patches).mean(2)
    wanted = torch.cat([5 * inner[:1] + 1, -2 * inner[1:3] + 9, 5 * inner[3:] + 1])
    torch.testing.assert_close(seen.patches, wanted)
    some = step.label(batch, (0, 1, 1, 0), rows=[1, 3])
    torch.testing.assert_close(some.patches, wanted[[1, 3]])


def test_each_image_has_its_own_teachers_scale(toys):
    student, batch = toys.Student(), toys.batch()
    terms = combine(shared=Maps(1.0, Identity()), anchor=0.1)
    scales = SourceScales({"a": 5.0, "b": 0.5}, 1.0)
    mixed = make(toys, terms, scales=scales)(student, batch, teacher=(1, 0, 1, 0))
    images = [part.unlabelled for part in micro_batches(Iteration(batch, None), 4)]
    step = make(toys, terms, scales=scales)
    single = [step(student, image, teacher=drawn) for image, drawn in zip(images, (1, 0, 1, 0), strict=True)]
    assert mixed.total.item() == pytest.approx(sum(one.total.item() for one in single) / 4, rel=1e-4)


def test_the_primarys_features_are_followed_whoever_labels(toys):
    student, batch = toys.Student(), toys.batch()
    terms = combine(shared=Maps(1.0, Global()), feature=StageTerm("feature", 1.0, FeatureTerm()))
    by_image = make(toys, terms)(student, batch, teacher=(1, 0, 1, 0)).terms["feature"]
    by_primary = make(toys, terms)(student, batch, teacher=0).terms["feature"]
    torch.testing.assert_close(by_image, by_primary)


def test_the_average_of_two_is_their_mean_after_normalisation():
    maps = torch.rand(2, 3, 1, 8, 8)
    mask = torch.rand(2, 3, 1, 8, 8) > 0.1

    def normal(x, m):
        x = x[m]
        median = x.sort().values[(len(x) - 1) // 2]
        return (x - median) / (x - median).abs().mean()

    both = average(
        [PseudoLabels(region=50 * maps[0] + 3, region_mask=mask[0]), PseudoLabels(region=maps[1], region_mask=mask[1])],
        Space.DISPARITY,
    )
    assert torch.equal(both.region_mask, mask.all(0))
    for index in range(3):
        m = both.region_mask[index]
        expected = (normal(maps[0, index], m) + normal(maps[1, index], m)) / 2
        torch.testing.assert_close(both.region[index][m], expected, rtol=1e-4, atol=1e-5)
    assert both.patches is None


def test_who_disagrees_with_two_others_counts_less():
    base = torch.rand(1, 1, 9, 9)
    labels = [PseudoLabels(region=x, region_mask=torch.ones_like(base, dtype=torch.bool)) for x in (base, base + 1e-4, -base)]
    found = average(labels, Space.DISPARITY).region
    normal = average(labels[:1], Space.DISPARITY).region
    assert ((found - normal).abs() < (normal / 3 - normal).abs() + 1e-4).all()  # nearer than the plain mean, normal / 3
    assert (found - normal).abs().mean() < 0.9 * (normal / 3 - normal).abs().mean()


def test_averaged_metres_are_metres(toys):
    """Two metric teachers, 2 m apart, and a student that compares metres as they are."""
    teachers = (Labeller("a", toys.Teacher(Space.METRIC)), Labeller("b", toys.Teacher(Space.METRIC, shift=3.0)))
    batch, student = toys.batch(), toys.Student(Space.METRIC)
    step = DistillationStep(combine(shared=Maps(1.0, Identity())), space=Space.METRIC, teachers=teachers)
    found = step.label(batch, None)
    torch.testing.assert_close(found.region, 5 * to_float(batch.images).mean(1, keepdim=True) + 2)
    expected = (student(to_float(batch.images)).depth - found.region).abs().mean()
    torch.testing.assert_close(step(student, batch, teacher=None).total, expected)


def test_averaging_trains_and_is_unsound(toys):
    student, batch = toys.Student(), toys.batch()
    terms = combine(shared=Maps(1.0, Global()), local_global=Maps(0.5, Global()), gradient=1.0)
    step = make(toys, terms)
    step(student, batch, teacher=None).total.backward()
    assert all(p.grad.isfinite().all() for p in student.parameters())
    facts = {"has_unlabelled": True, "has_labelled": False, "patches": 2, "has_reference": False}
    for selection, doubts in (("average", 1), ("sample", 0)):
        found = check_stage(terms, student.spec, step.teachers, **facts, selection=selection)
        assert len(found) == sum("Table 4" in doubt for doubt in found) == doubts


@pytest.mark.parametrize("selection", ["sample", "average"])
def test_the_loop_draws_as_the_stage_says(toys, run_stage, unequal, selection):
    teachers = (Labeller("a", toys.Teacher(), 0.5), Labeller("b", toys.Teacher(scale=-2.0), 0.5))

    def outcome(at, accumulate):
        stage = toys.stage(combine(shared=Maps(1.0, Global())), teachers=teachers, iterations=3, selection=selection,
                           optim={"accumulate": accumulate})  # fmt: skip
        return run_stage(stage, at)

    whole, parts = outcome("whole", 1), outcome("parts", 2)
    for name, value in whole.weights.items():
        torch.testing.assert_close(value, parts.weights[name], rtol=1e-4, atol=1e-5)
