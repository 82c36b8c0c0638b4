"""The step: the total is what the formula says, from the maps that the method says."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from dadkit.interfaces import FeatureEncoder, NetworkSpec, Prediction
from dadkit.losses import (
    feature_alignment_loss,
    gradient_matching_loss,
    hybrid_norm_loss,
    l1_loss,
    local_global_loss,
    scale_anchor_loss,
    ssi_loss,
)
from dadkit.normalizers import Global, Hybrid, Identity
from dadkit.ops.reference import sample_boxes
from dadkit.spaces import Space
from dadkit.training.batches import Iteration, micro_batches
from dadkit.training.compose import Maps, combine
from dadkit.training.labels import Labeller, labelled_target, to_float
from dadkit.training.scale import LABELS, SourceScales
from dadkit.training.soundness import StageError, StageTerm
from dadkit.training.step import DistillationStep
from dadkit.training.terms import FeatureTerm, LossTerm, align_features, to_grid

PAPER = {"shared": Maps(1.0, Hybrid()), "local_global": Maps(0.5, Hybrid()), "gradient": 2.0}


def make_step(toys, terms, *, teachers=None, space=Space.DISPARITY, **options):
    if teachers is None:
        teachers = (Labeller("toy", toys.Teacher()),)
    return DistillationStep(terms, space=space, teachers=teachers, **options)


def student_map(student, batch):
    return student(to_float(batch.student_images))


def teacher_map(images, scale=5.0, shift=1.0):
    return scale * to_float(images).mean(-3, keepdim=True) + shift


def test_the_total_is_the_papers_formula(toys):
    student, batch = toys.Student(), toys.batch()
    terms = combine(**PAPER, anchor=0.1, feature=StageTerm("feature", 1.0, FeatureTerm()))
    scales = SourceScales({"toy": 0.7}, 1.0)
    result = make_step(toys, terms, scales=scales)(student, batch)

    prediction = student_map(student, batch)
    pred, region, patches = prediction.depth, teacher_map(batch.images), teacher_map(batch.patches).squeeze(2)
    tokens = toys.Teacher()(to_float(batch.images)).features["tokens"]
    expected = {
        "shared": hybrid_norm_loss(pred, region / 0.7),
        "local_global": local_global_loss(pred, patches / 0.7, batch.boxes),
        "gradient": gradient_matching_loss(pred, region),
        "anchor": scale_anchor_loss(pred, region, target_scale=0.7),
        "feature": feature_alignment_loss(*align_features(prediction.features["tokens"], tokens, (16, 16), None)),
    }
    assert result.terms.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(result.terms[name], value.detach(), rtol=1e-4, atol=1e-6, msg=name)
    total = sum(
        w * expected[n] for n, w in {"shared": 1, "local_global": 0.5, "gradient": 2, "anchor": 0.1, "feature": 1}.items()
    )
    torch.testing.assert_close(result.total, total, rtol=1e-4, atol=1e-6)
    assert all(not value.requires_grad for value in result.terms.values())


def test_the_student_sees_its_own_view_and_the_teacher_the_clean_one(toys, replaced):
    student, batch = toys.Student(), toys.batch()
    perturbed = replaced(batch, student_images=255 - batch.images)
    result = make_step(toys, combine(shared=Maps(1.0, Global())))(student, perturbed)
    expected = ssi_loss(student(to_float(255 - batch.images)).depth, teacher_map(batch.images))
    torch.testing.assert_close(result.total, expected, rtol=1e-4, atol=1e-6)


def test_regions_and_patches_share_a_forward_pass_where_sizes_agree(toys):
    for patch, calls in ((16, [(12, 3, 16, 16)]), (12, [(4, 3, 16, 16), (8, 3, 12, 12)])):
        teacher = toys.Teacher()
        batch = toys.batch(patch=patch)
        step = make_step(toys, combine(**PAPER), teachers=(Labeller("toy", teacher),))
        seen = step.label(batch, 0)
        assert teacher.calls == calls
        torch.testing.assert_close(seen.region, teacher_map(batch.images))
        torch.testing.assert_close(seen.patches, teacher_map(batch.patches).squeeze(2))
        assert seen.features["tokens"].shape == (4, 4, 6)


def test_the_drawn_teacher_labels_and_nobody_else(toys):
    teachers = (Labeller("a", toys.Teacher()), Labeller("b", toys.Teacher(scale=-2.0)))
    step = make_step(toys, combine(shared=Maps(1.0, Global())), teachers=teachers)
    student, batch = toys.Student(), toys.batch()
    result = step(student, batch, teacher=1)
    expected = ssi_loss(student_map(student, batch).depth, teacher_map(batch.images, -2.0))
    torch.testing.assert_close(result.total, expected, rtol=1e-4, atol=1e-6)
    assert teachers[0].model.calls == []


def test_gradients_are_matched_on_patches_where_only_those_are_compared(toys):
    student, batch = toys.Student(), toys.batch()
    step = make_step(toys, combine(local_global=Maps(0.5, Hybrid()), gradient=2.0))
    result = step(student, batch)
    crops = sample_boxes(student_map(student, batch).depth.squeeze(1), batch.boxes, (16, 16)).flatten(0, 1)
    expected = gradient_matching_loss(crops, teacher_map(batch.patches).squeeze(2).flatten(0, 1))
    torch.testing.assert_close(result.terms["gradient"], expected.detach(), rtol=1e-4, atol=1e-6)
    assert step.teachers[0].model.calls == [(8, 3, 16, 16)]  # the regions were not even looked at


def test_without_normalisation_teachers_are_brought_to_one_scale(toys):
    student, batch = toys.Student(), toys.batch()
    teachers = (Labeller("big", toys.Teacher(scale=50.0, shift=0.0)), Labeller("small", toys.Teacher(scale=0.5, shift=0.0)))
    scales = SourceScales({"big": 10.0, "small": 0.1}, 2.0)
    step = make_step(toys, combine(shared=Maps(1.0, Identity()), gradient=2.0), teachers=teachers, scales=scales)
    pred = student_map(student, batch).depth
    target = teacher_map(batch.images, 10.0, 0.0)  # 2 / 10 * 50 = 2 / 0.1 * 0.5
    for teacher in (0, 1):
        result = step(student, batch, teacher=teacher)
        torch.testing.assert_close(result.terms["shared"], l1_loss(pred, target).detach(), rtol=1e-4, atol=1e-6)
        raw = gradient_matching_loss(pred, target, normalize=False)
        torch.testing.assert_close(result.terms["gradient"], raw.detach(), rtol=1e-4, atol=1e-6)


def test_labelled_terms_and_means_over_both_kinds(toys):
    student, plain, labelled = toys.Student(), toys.batch(3), toys.batch(2, seed=9, depth=True)
    terms = combine(shared=Maps(1.0, Hybrid()), labelled=Maps(0.7, Global()), gradient=2.0, anchor=0.1)
    scales = SourceScales({"toy": 0.5, LABELS: 0.2})
    result = make_step(toys, terms, scales=scales)(student, plain, labelled)
    both = student(to_float(torch.cat([plain.images, labelled.images]))).depth
    pred_p, pred_l = both.split([3, 2])
    region = teacher_map(plain.images)
    truth, mask = labelled_target(labelled, Space.DISPARITY)
    expected = {
        "shared": hybrid_norm_loss(pred_p, region),
        "labelled": ssi_loss(pred_l, truth, mask),
        "gradient": 0.6 * gradient_matching_loss(pred_p, region) + 0.4 * gradient_matching_loss(pred_l, truth, mask),
        "anchor": 0.6 * scale_anchor_loss(pred_p, region, target_scale=0.5)
        + 0.4 * scale_anchor_loss(pred_l, truth, mask, target_scale=0.2),
    }
    for name, value in expected.items():
        torch.testing.assert_close(result.terms[name], value.detach(), rtol=1e-4, atol=1e-6, msg=name)


def test_true_depth_becomes_disparity_in_the_unit_range_with_sky_at_zero(toys, replaced):
    batch = toys.batch(2, depth=True)
    valid = batch.valid.clone()
    valid[0, :, 3:5] = False
    depth = batch.depth.clone()
    depth[0, :, 3] = torch.nan
    depth[1, :, 4, 4] = -1.0
    target, mask = labelled_target(replaced(batch, depth=depth, valid=valid), Space.DISPARITY)
    assert target[:, :, 0].eq(0).all()
    assert mask[:, :, 0].all()
    assert not mask[0, :, 3:5].any()
    assert not mask[1, 0, 4, 4]
    assert target.isfinite().all()
    for index in range(2):
        inside = target[index][mask[index]]
        assert inside.min() == 0
        assert inside.max() == 1
        disparity = (1 / depth[index])[mask[index]]
        torch.testing.assert_close(inside, disparity / disparity.max())


def test_true_depth_for_depth_and_metric_students(toys):
    batch = toys.batch(2, depth=True)
    metres, mask = labelled_target(batch, Space.METRIC)
    assert torch.equal(metres[mask], batch.depth[mask])
    assert not mask[:, :, 0].any()  # sky has no depth
    affine, mask = labelled_target(batch, Space.DEPTH)
    assert affine[mask].min() == 0
    assert affine[mask].max() == 1
    assert affine.isfinite().all()


def test_a_labelled_map_of_one_value_or_without_valid_pixels_is_harmless(toys, replaced):
    batch = toys.batch(2, depth=True)
    depth = torch.full_like(batch.depth, 4.0)
    valid = batch.valid.clone()
    valid[1] = False
    flat = replaced(batch, depth=depth, valid=valid)
    target, _ = labelled_target(flat, Space.DISPARITY)
    assert target.eq(0).all()
    student = toys.Student()
    result = make_step(toys, combine(labelled=Maps(1.0, Global()), gradient=2.0), teachers=())(student, None, flat)
    result.total.backward()
    assert result.total == 0
    assert all(p.grad is None or p.grad.eq(0).all() for p in student.parameters())


def test_metric_students_and_raw_maps_have_no_anchor(toys):
    for space, normalizer, anchored in (
        (Space.METRIC, Global(), False),
        (Space.DISPARITY, Identity(), False),
        (Space.DISPARITY, Global(), True),
    ):
        terms = combine(labelled=Maps(1.0, normalizer), anchor=0.1, space=space)
        result = make_step(toys, terms, teachers=(), space=space)(toys.Student(space), None, toys.batch(2, depth=True))
        assert ("anchor" in result.terms) == anchored


def test_extra_losses_see_whole_maps_at_the_students_scale(toys):
    seen = []

    def spy(pred, target, mask):
        seen.append((pred.shape, target.clone(), mask.all().item()))
        return (pred - target).abs().mean()

    batch = toys.batch()
    step = make_step(toys, combine(extra=(StageTerm("extra/spy", 3.0, LossTerm(spy)),)), scales=SourceScales({"toy": 0.5}, 2.0))
    result = step(toys.Student(), batch)
    ((shape, target, whole),) = seen
    assert shape == (4, 1, 16, 16)
    assert whole
    torch.testing.assert_close(target, 4 * teacher_map(batch.images))
    assert result.total.item() == pytest.approx(3 * result.terms["extra/spy"].item())


def test_invalid_and_non_finite_teacher_pixels_are_left_out(toys):
    class Holes(toys.Teacher):
        def forward(self, images):
            answer = super().forward(images)
            depth = answer.depth.clone()
            depth[:, :, 2] = torch.nan
            depth[:, :, 3] = torch.inf
            valid = torch.ones_like(depth, dtype=torch.bool)
            valid[:, :, 4] = False
            return Prediction(depth, answer.space, valid, answer.features)

    student, batch = toys.Student(), toys.batch()
    result = make_step(toys, combine(**PAPER, anchor=0.1), teachers=(Labeller("holes", Holes()),))(student, batch)
    result.total.backward()
    assert result.total.isfinite()
    assert all(p.grad.isfinite().all() for p in student.parameters())
    mask = torch.ones(4, 1, 16, 16, dtype=torch.bool)
    mask[:, :, 2:5] = False
    expected = hybrid_norm_loss(student_map(student, batch).depth, teacher_map(batch.images), mask)
    torch.testing.assert_close(result.terms["shared"], expected.detach(), rtol=1e-4, atol=1e-6)


def test_a_metric_teacher_teaches_disparity(toys):
    student, batch = toys.Student(), toys.batch()
    teachers = (Labeller("metric", toys.Teacher(Space.METRIC)),)
    result = make_step(toys, combine(shared=Maps(1.0, Global())), teachers=teachers)(student, batch)
    expected = ssi_loss(student_map(student, batch).depth, 1 / teacher_map(batch.images))
    torch.testing.assert_close(result.total, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("parts", [2, 3, 4])
@pytest.mark.parametrize("labelled", [0, 3])
def test_accumulated_micro_batches_equal_the_big_batch(toys, parts, labelled):
    terms = combine(
        **PAPER,
        labelled=Maps(0.7, Global(), trim=0.1),
        anchor=0.1,
        feature=StageTerm("feature", 1.0, FeatureTerm(widths=(6, 5))),
    )
    teachers = (Labeller("toy", toys.Teacher(width=5)),)
    scales = SourceScales({"toy": 0.7, LABELS: 0.2})
    data = Iteration(toys.batch(4), toys.batch(labelled, seed=9, depth=True) if labelled else None)
    student = toys.Student().double()
    step = make_step(toys, terms, teachers=teachers, scales=scales).double()

    def forward(images):
        prediction = student.estimate(images.double() - 0.5)
        depth = torch.nn.functional.interpolate(prediction[0], (16, 16), mode="bilinear")
        return Prediction(depth, Space.DISPARITY, features=prediction[1])

    def gradients(count):
        for parameter in [*student.parameters(), *step.parameters()]:
            parameter.grad = None
        values = {}
        for part in micro_batches(data, count):
            result = step(forward, part.unlabelled, part.labelled, images=data.counts, with_stats=True)
            result.total.backward()
            for name, value in result.named().items():
                values[name] = values.get(name, 0) + value
        return values, [p.grad.clone() for p in [*student.parameters(), *step.parameters()]]

    whole, parted = gradients(1), gradients(parts)
    for name, value in whole[0].items():
        torch.testing.assert_close(parted[0][name], value, rtol=1e-6, atol=1e-9, msg=name)
    for a, b in zip(whole[1], parted[1], strict=True):
        torch.testing.assert_close(b, a, rtol=1e-6, atol=1e-8)


def test_features_follow_the_primary_teacher_even_when_the_assistant_is_drawn(toys):
    primary, assistant = toys.Teacher(), toys.Teacher(scale=-1.0)
    terms = combine(shared=Maps(1.0, Global()), feature=StageTerm("feature", 1.0, FeatureTerm()))
    step = make_step(toys, terms, teachers=(Labeller("primary", primary), Labeller("assistant", assistant)))
    student, batch = toys.Student(), toys.batch()
    by_primary = step(student, batch, teacher=0)
    assert len(primary.calls) == 1  # its tokens come with its labels
    by_assistant = step(student, batch, teacher=1)
    assert len(primary.calls) == 2
    assert by_primary.terms["feature"] == by_assistant.terms["feature"]


def test_a_reference_of_its_own_needs_no_teachers(toys):
    reference = toys.Teacher(width=9)
    terms = combine(feature=StageTerm("feature", 1.0, FeatureTerm(widths=(6, 9))))
    step = make_step(toys, terms, teachers=(), reference=reference)
    student = toys.Student()
    result = step(student, toys.batch())
    result.total.backward()
    assert reference.calls == [(4, 3, 16, 16)]
    adapter = terms[0].term.adapter
    assert adapter.weight.grad.abs().sum() > 0
    assert student.encoder[0].weight.grad.abs().sum() > 0
    assert [id(parameter) for parameter in step.parameters()] == [id(adapter.weight), id(adapter.bias)]


def test_a_feature_encoder_is_a_reference_too(toys):
    class Eyes(FeatureEncoder):
        def __init__(self):
            super().__init__()
            self.spec = NetworkSpec("eyes", size_multiple=8, features={"tokens": 6})
            self.net = nn.Conv2d(3, 6, 8, stride=8)

        def encode(self, x):
            return {"tokens": self.net(x).flatten(2).transpose(1, 2)}

    step = make_step(toys, combine(feature=StageTerm("feature", 1.0, FeatureTerm())), teachers=(), reference=Eyes())
    student = toys.Student()
    step(student, toys.batch()).total.backward()
    assert student.encoder[0].weight.grad.abs().sum() > 0
    assert not list(step.parameters())


def test_an_adapter_only_where_widths_differ():
    assert FeatureTerm(widths=(6, 6)).adapter is None
    assert FeatureTerm(widths=(6, 4)).adapter.weight.shape == (4, 6)
    assert FeatureTerm(widths=(6, 4), loss="pairwise").adapter is None


def test_grids_of_tokens():
    tokens = torch.arange(15.0).view(1, 15, 1)
    assert to_grid(tokens, (60, 100)).shape == (1, 1, 3, 5)
    assert to_grid(tokens, (100, 60)).shape == (1, 1, 5, 3)
    assert to_grid(tokens, (60, 100))[0, 0, 1, 2] == 7  # rows first
    with pytest.raises(ValueError, match="17 tokens form no grid"):
        to_grid(torch.zeros(1, 17, 3), (64, 64))
    with pytest.raises(ValueError, match=r"\(2, 3\)"):
        to_grid(torch.zeros(2, 3), (64, 64))


def test_students_tokens_are_resampled_to_the_references_grid():
    student = torch.randn(2, 16, 3, requires_grad=True)
    own, wanted = align_features(student, torch.randn(2, 5, 2, 2), (32, 32), None)
    assert own.shape == (2, 4, 3)
    assert wanted.shape == (2, 4, 5)
    assert own.requires_grad
    assert not wanted.requires_grad


@pytest.mark.parametrize("loss", ["channel-kl", "channel-mse", "pairwise"])
def test_a_comparison_of_places_is_refused_where_there_is_one(loss):
    own, wanted = {"tokens": torch.rand(2, 4, 8)}, {"tokens": torch.rand(2, 1, 8)}
    with pytest.raises(StageError, match=f"{loss} compares the places .* 'tokens' .* 64 x 64"):
        FeatureTerm(loss=loss).compare(own, wanted, (64, 64))
    assert FeatureTerm(loss=loss).compare(wanted, own, (64, 64)) > 0


def test_bf16_runs_the_models_and_not_the_losses(toys):
    student = toys.Student()
    seen = []
    student.head.register_forward_hook(lambda module, args, out: seen.append(out.dtype))
    step = make_step(toys, combine(**PAPER, feature=StageTerm("feature", 1.0, FeatureTerm())), autocast=torch.bfloat16)
    result = step(student, toys.batch())
    assert seen == [torch.bfloat16]
    assert result.total.dtype == torch.float32
    result.total.backward()
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in student.parameters())
    exact = make_step(toys, combine(**PAPER, feature=StageTerm("feature", 1.0, FeatureTerm())))(student, toys.batch())
    assert 0 < abs(result.total - exact.total) < 0.1 * exact.total


def test_statistics_of_the_raw_maps(toys):
    maps = torch.tensor([[1.0, 2.0, 3.0, 6.0], [-1.0, 0.0, 1.0, 4.0], [2.0, 2.0, 2.0, 2.0]]).view(3, 1, 2, 2)

    def student(images):
        return Prediction(maps.requires_grad_(), Space.DISPARITY)

    step = make_step(toys, combine(shared=Maps(1.0, Global())))
    batch = toys.batch(3, view=2)
    stats = step(student, batch, with_stats=True).named()
    assert stats["student/median"].item() == pytest.approx((2 + 0 + 2) / 3)
    assert stats["student/mad"].item() == pytest.approx((1.5 + 1.5 + 0) / 3)
    assert stats["student/nonpositive"].item() == pytest.approx(2 / 12)
    assert stats["student/constant"].item() == 1
    assert not step(student, batch).stats


def test_micro_batches_are_a_partition(toys):
    data = Iteration(toys.batch(5), toys.batch(2, seed=3, depth=True))
    parts = list(micro_batches(data, 4))
    assert [part.here for part in parts] == [(1, 0), (1, 1), (1, 0), (2, 1)]
    assert {part.counts for part in parts} == {(5, 2)}
    assert [part.first for part in parts] == [0, 1, 2, 3]
    assert sum((part.keys[: part.here[0]] for part in parts), ()) == data.unlabelled.keys
    assert torch.equal(torch.cat([part.unlabelled.boxes for part in parts]), data.unlabelled.boxes)
    assert all(part.unlabelled.student_images is part.unlabelled.images for part in parts)
    assert math.isclose(sum(len(p.unlabelled) / data.counts[0] for p in parts), 1)
