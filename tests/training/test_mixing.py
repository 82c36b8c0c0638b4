"""Steps on mixed views: each region against its own image's target, with its own statistics, weighted by its area."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from dadkit.data.perturbations import paste
from dadkit.interfaces import MapPair
from dadkit.losses import (
    MSELoss,
    feature_alignment_loss,
    gradient_matching_loss,
    hybrid_norm_loss,
    local_global_loss,
    mse_loss,
    scale_anchor_loss,
)
from dadkit.normalizers import Hybrid, Identity
from dadkit.spaces import Space
from dadkit.training.batches import Iteration, micro_batches
from dadkit.training.compose import Maps, combine
from dadkit.training.labels import Labeller, to_float
from dadkit.training.samples import draw_samples
from dadkit.training.scale import SourceScales
from dadkit.training.soundness import StageTerm
from dadkit.training.step import DistillationStep, by_region, mixed_rows
from dadkit.training.terms import FeatureTerm, LossTerm, align_features

BOXES = torch.tensor([[3, 2, 11, 9], [0, 0, 0, 0], [0, 0, 6, 16], [10, 4, 16, 12]])
ALL = {
    "shared": Maps(1.0, Hybrid()),
    "local_global": Maps(0.5, Hybrid()),
    "gradient": 2.0,
    "anchor": 0.1,
    "feature": StageTerm("feature", 1.0, FeatureTerm()),
    "extra": (StageTerm("extra/mse", 1.0, LossTerm(MSELoss())),),
}


@pytest.fixture
def mixed(toys, replaced):
    def make(count=4):
        batch = toys.batch(count)
        boxes = BOXES[:count]
        return replaced(batch, student_images=paste(batch.images, boxes), pasted=boxes)

    return make


def make_step(toys, terms, teachers=None, **options):
    teachers = teachers or (Labeller("toy", toys.Teacher()),)
    return DistillationStep(terms, space=Space.DISPARITY, teachers=teachers, **options)


def test_regions_cover_each_view_once():
    unmixed, rows = mixed_rows(BOXES, 4)
    assert (unmixed, rows) == ([1], [0, 2, 3])
    numbers = torch.arange(4.0).view(4, 1, 1, 1).expand(4, 1, 16, 16)
    whole = MapPair(numbers, 10 * numbers, torch.ones(4, 1, 16, 16, dtype=torch.bool), 4)
    regions = by_region(whole, BOXES, rows)
    seen = regions.pred[:, 0, 0, 0].long()
    assert seen.tolist() == [0, 1, 2, 3, 0, 2, 3]
    assert regions.target[:, 0, 0, 0].tolist() == [0, 10, 20, 30, 10, 30, 20]
    covered = torch.zeros(4, 1, 16, 16).index_add(0, seen, regions.mask.float())
    assert (covered == 1).all()
    assert torch.zeros(4).index_add(0, seen, regions.weights).tolist() == pytest.approx([1.0] * 4)
    assert regions.weights[4].item() == 8 * 7 / 256


def test_every_map_term_is_taken_by_region_and_weighted_by_area(toys, mixed):
    student, batch = toys.Student(), mixed()
    teacher = toys.Teacher()
    step = make_step(toys, combine(**ALL), (Labeller("toy", teacher),), scales=SourceScales({"toy": 0.7}, 1.0))
    result = step(student, batch)
    pred = student(to_float(batch.student_images)).depth
    labels = 5 * to_float(batch.images).mean(1, keepdim=True) + 1  # of the clean images
    sums = dict.fromkeys(("shared", "gradient", "anchor", "extra/mse"), 0.0)
    for index, (x0, y0, x1, y1) in enumerate(BOXES.tolist()):
        inside = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
        inside[..., y0:y1, x0:x1] = True
        for region, source in ((~inside, index), (inside, index ^ 1)):
            if not region.any():
                continue
            maps = (pred[index : index + 1], labels[source : source + 1], region)
            area = region.float().mean().item()
            sums["shared"] += area * hybrid_norm_loss(*maps).item() / 4
            sums["gradient"] += area * gradient_matching_loss(*maps).item() / 4
            sums["anchor"] += area * scale_anchor_loss(*maps, target_scale=0.7).item() / 4
            sums["extra/mse"] += area * mse_loss(maps[0], maps[1] / 0.7, maps[2]).item() / 4
    for name, value in sums.items():
        assert result.terms[name].item() == pytest.approx(value, rel=1e-4), name
    # Only image 1 is unmixed, so only its patches are compared, and even labelled.
    patches = 5 * to_float(batch.patches[1:2]).mean(2) + 1
    expected = local_global_loss(pred[1:2], patches, batch.boxes[1:2]).item() / 4
    assert result.terms["local_global"].item() == pytest.approx(expected, rel=1e-4)
    assert teacher.calls[0][0] == 4 + 2


def test_a_region_has_its_own_images_teacher_scale_mask_and_camera(toys, mixed, replaced):
    """Images 0 and 1 have other teachers, of other range, one of which leaves a row out, and other cameras."""

    class Holed(toys.Teacher):
        def forward(self, images):
            answer = super().forward(images)
            valid = torch.ones_like(answer.depth, dtype=torch.bool)
            valid[:, :, 5] = False
            return replaced(answer, valid=valid)

    seen = []

    def spy(pred, target, mask, *, intrinsics, frames):
        seen.append((target, mask, intrinsics, frames))
        return pred.mean() * 0

    teachers = (Labeller("a", toys.Teacher(scale=50.0)), Labeller("b", Holed(scale=1.0)))
    batch = mixed(2)
    cameras = torch.arange(1.0, 3.0)[:, None, None] * torch.eye(3)
    batch = replaced(batch, intrinsics=cameras, frames=10 * cameras)
    step = make_step(
        toys, combine(extra=(StageTerm("extra/spy", 1.0, LossTerm(spy)),)), teachers, scales=SourceScales({"a": 10.0, "b": 0.2})
    )
    step(toys.Student(), batch, teacher=(0, 1))
    light = to_float(batch.images).mean(1, keepdim=True)
    wanted = [(50 * light[:1] + 1) / 10, (light[1:] + 1) / 0.2]
    assert len(seen) == 3  # image 0 without its rectangle, image 1, the rectangle of image 1 in image 0
    for (target, mask, intrinsics, frames), source in zip(seen, (0, 1, 1), strict=True):
        torch.testing.assert_close(target, wanted[source])
        assert bool(mask[0, 0, 5].any()) == (source == 0)
        assert intrinsics[0, 0, 0] == source + 1
        assert frames[0, 0, 0] == 10 * (source + 1)
    inside = torch.zeros(16, 16, dtype=torch.bool)
    inside[2:9, 3:11] = True
    assert torch.equal(seen[0][1][0, 0], ~inside)
    inside[5] = False
    assert torch.equal(seen[2][1][0, 0], inside)


def test_patches_of_unmixed_images_keep_their_teachers_scale(toys, mixed):
    """Only image 1 is unmixed; raw patches and their gradients follow teacher b's scale, not that of image 0."""
    teachers = (Labeller("a", toys.Teacher(scale=50.0)), Labeller("b", toys.Teacher(scale=1.0)))
    terms = combine(local_global=Maps(1.0, Identity()), gradient=1.0)
    scales = SourceScales({"a": 10.0, "b": 0.2})
    student, batch = toys.Student(), mixed(2)
    result = make_step(toys, terms, teachers, scales=scales)(student, batch, teacher=(0, 1))
    alone = make_step(toys, terms, teachers, scales=scales)(student, toys.batch(2), teacher=(0, 1), images=(2, 0))
    first = next(part.unlabelled for part in micro_batches(Iteration(toys.batch(2), None), 2))
    without = make_step(toys, terms, teachers, scales=scales)(student, first, teacher=(0,), images=(2, 0))
    for name in ("local_global", "gradient"):
        wanted = alone.terms[name] - without.terms[name]  # what image 1 adds
        torch.testing.assert_close(result.terms[name], wanted, rtol=1e-4, atol=1e-5)


def test_the_feature_reference_sees_the_mixture_in_clean_colours(toys, mixed, replaced):
    student, batch = toys.Student(), mixed()
    batch = replaced(batch, student_images=255 - batch.student_images)
    result = make_step(toys, combine(feature=StageTerm("feature", 1.0, FeatureTerm())))(student, batch)
    tokens = toys.Teacher()(to_float(paste(batch.images, BOXES))).features["tokens"]
    own = student(to_float(batch.student_images)).features["tokens"]
    expected = feature_alignment_loss(*align_features(own, tokens, (16, 16), None))
    torch.testing.assert_close(result.total, expected, rtol=1e-4, atol=1e-6)


def test_a_batch_in_which_nothing_was_pasted_is_as_if_cutmix_were_off(toys, replaced):
    student, batch = toys.Student(), toys.batch()
    untouched = replaced(batch, pasted=torch.zeros(4, 4, dtype=torch.int64))
    plain, same = (make_step(toys, combine(**ALL))(student, one).total for one in (batch, untouched))
    assert torch.equal(plain, same)


def test_all_mixed_leaves_no_patches_and_asks_for_none(toys, mixed, replaced):
    student, batch = toys.Student(), mixed()
    batch = replaced(batch, pasted=BOXES[[0, 0, 2, 3]])
    teacher = toys.Teacher()
    terms = combine(local_global=Maps(0.5, Hybrid()), gradient=2.0)
    result = make_step(toys, terms, (Labeller("toy", teacher),))(student, batch)
    assert result.terms == {}
    assert result.total.item() == 0
    assert teacher.calls == []


@pytest.mark.parametrize("parts", [2, 3, 4])
def test_accumulation_gives_the_gradient_of_the_whole(toys, mixed, parts):
    data = Iteration(mixed(), toys.batch(3, seed=9, depth=True))
    gradients = []
    for count in (1, parts):
        student = toys.Student()
        step = make_step(toys, combine(**ALL, labelled=Maps(1.0, Hybrid())))
        for part in micro_batches(data, count):
            step(student, part.unlabelled, part.labelled, images=data.counts).total.backward()
        gradients.append(torch.cat([p.grad.flatten() for p in student.parameters()]))
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_no_gradient_crosses_the_border(toys, mixed):
    """The target has a step at the border; no term sees it, so a perfect student of both regions has no loss."""
    batch = mixed()
    labels = 5 * to_float(batch.images).mean(1, keepdim=True) + 1
    perfect = paste(labels, BOXES).requires_grad_()
    terms = combine(shared=Maps(1.0, Hybrid()), gradient=2.0)

    def student(_):
        from dadkit.interfaces import Prediction

        return Prediction(perfect, Space.DISPARITY)

    result = make_step(toys, terms)(student, batch)
    assert result.total.item() == pytest.approx(0, abs=1e-5)


def test_sample_grids_show_the_mixed_target_and_the_border(toys, mixed):
    step, student = make_step(toys, combine(**ALL)), toys.Student()
    picture = draw_samples(step, student, Iteration(mixed(), None), torch.device("cpu"))
    plain = draw_samples(step, student, Iteration(toys.batch(), None), torch.device("cpu"))
    assert picture.shape == plain.shape
    assert (picture != plain).any()
    batch = mixed()
    darker = replace(batch, student_images=batch.student_images // 2)
    assert draw_samples(step, student, Iteration(darker, None), torch.device("cpu")).shape[1] > picture.shape[1]
