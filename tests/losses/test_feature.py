"""Feature alignment."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from dadkit.losses import FeatureAlignmentLoss, feature_alignment_loss


def tokens(seed=0, shape=(3, 20, 6)):
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("threshold", [-1.0, 0.0, 0.3, 1.0])
def test_equals_its_formula(threshold):
    student, reference = tokens(), tokens(1)
    want, pixels, number = [], 0.0, 0
    for f, g in zip(student, reference, strict=True):
        cos = [F.cosine_similarity(a, b, dim=0).item() for a, b in zip(f, g, strict=True)]
        kept = [c for c in cos if c <= threshold]
        want.append(1 - sum(kept) / len(kept) if kept else 0.0)
        pixels, number = pixels + sum(1 - c for c in kept), number + len(kept)
    call = {"cos_threshold": threshold}
    assert feature_alignment_loss(student, reference, **call, reduction="image").tolist() == pytest.approx(want)
    assert feature_alignment_loss(student, reference, **call).item() == pytest.approx(sum(want) / 3)
    assert feature_alignment_loss(student, reference, **call, reduction="pixel").item() == pytest.approx(
        pixels / max(number, 1)
    )
    assert feature_alignment_loss(student, reference, **call, reduction="none").shape == (3, 20)


def test_tokens_that_are_similar_enough_are_left_alone():
    reference = tokens()
    student = reference + 0.05 * tokens(1)
    student[0, 0] = -reference[0, 0]
    student.requires_grad_()
    loss = feature_alignment_loss(student, reference, reduction="image")
    assert loss.tolist() == pytest.approx([2.0, 0.0, 0.0])
    loss.sum().backward()
    assert torch.count_nonzero(student.grad[1:]) == 0
    assert torch.count_nonzero(student.grad[0, 1:]) == 0


def test_a_token_at_the_threshold_is_kept():
    student, reference = torch.tensor([[[3.0, 0.0]]]), torch.tensor([[[0.0, 2.0]]])
    assert feature_alignment_loss(student, reference, cos_threshold=0.0).item() == 1
    assert feature_alignment_loss(student, reference, cos_threshold=-0.001).item() == 0


def test_lengths_do_not_matter_and_the_gradient_is_orthogonal_to_the_token():
    student, reference = tokens().requires_grad_(), tokens(1)
    lengths = torch.rand(3, 20, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(2)) + 0.1
    loss = feature_alignment_loss(student, reference)
    torch.testing.assert_close(feature_alignment_loss(lengths * student, reference / lengths), loss, rtol=1e-12, atol=0)
    (gradient,) = torch.autograd.grad(loss, student)
    assert (gradient * student).sum(-1).abs().max() < 1e-14


def test_zero_tokens_count_as_cos_0_and_get_no_gradient():
    student, reference = tokens(), tokens(1)
    student[:, 0] = 0
    reference[:, 1] = 0
    student.requires_grad_()
    loss = feature_alignment_loss(student, reference, reduction="none")
    assert loss[:, :2].tolist() == [[1.0, 1.0]] * 3
    loss.sum().backward()
    assert student.grad.isfinite().all()
    assert torch.count_nonzero(student.grad[:, :2]) == 0


def test_a_bad_token_is_seen_in_its_own_image_only():
    student, reference = tokens(), tokens(1)
    student[1, 3, 2] = torch.nan
    assert feature_alignment_loss(student, reference, reduction="image").isnan().tolist() == [False, True, False]


def test_adapter_only_where_the_widths_differ():
    assert FeatureAlignmentLoss().adapter is None
    assert FeatureAlignmentLoss(student_width=6, reference_width=6).adapter is None
    loss = FeatureAlignmentLoss(student_width=4, reference_width=6)
    loss(torch.randn(3, 20, 4), tokens()).backward()
    assert loss.adapter.weight.grad is not None
    for widths in ({"student_width": 4}, {"reference_width": 4}, {"student_width": 0, "reference_width": 4}):
        with pytest.raises(ValueError, match="both widths"):
            FeatureAlignmentLoss(**widths)


@pytest.mark.parametrize(
    ("student", "reference", "message"),
    [
        (torch.rand(2, 3, 4), torch.rand(2, 3, 5), r"\(2, 3, 4\) and \(2, 3, 5\)"),
        (torch.rand(2, 3), torch.rand(2, 3), r"\(B, N, C\)"),
        (torch.ones(2, 3, 4, dtype=torch.int64), torch.rand(2, 3, 4), "int64"),
    ],
)
def test_wrong_tokens_are_refused(student, reference, message):
    with pytest.raises(ValueError, match=message):
        feature_alignment_loss(student, reference)
