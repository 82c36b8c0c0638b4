"""Students answer in every space, and learn metres for any camera."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError

import dadkit
from dadkit.data.sample import Batch
from dadkit.interfaces import CameraError, FrozenTeacher, camera_from_fov
from dadkit.losses import SILogLoss
from dadkit.options import SpaceOptions
from dadkit.spaces import Space
from dadkit.training.labels import Labeller
from dadkit.training.soundness import StageTerm
from dadkit.training.step import DistillationStep
from dadkit.training.terms import LossTerm

STUDENTS = {
    "dav2/tiny": 28,
    "topformer/tiny": 64,
    "zipdepth/small": 64,
    "timm/auto": 64,
}
EXTRA = {"timm/auto": {"encoder": "test_efficientnet", "channels": 8}}


def student(name: str, space: str, **options):
    torch.manual_seed(0)
    if name == "dav2/tiny" and space == "metric":
        name, options = "dav2/tiny-metric", {"max_depth": 20, **options}
    else:
        options["space"] = space
    return dadkit.load_student(name, **EXTRA.get(name, {}), **options)


@pytest.mark.parametrize("space", list(Space))
@pytest.mark.parametrize("name", STUDENTS)
def test_every_student_answers_in_every_space(name, space):
    model = student(name, space).train()
    side = STUDENTS[name]
    answer = model(torch.rand(2, 3, side, side))
    assert answer.space is space
    assert answer.depth.isfinite().all()
    assert answer.depth.std() > 0
    if space is not Space.DEPTH or name == "timm/auto":
        assert answer.depth.min() >= 0
    answer.depth.mean().backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())
    assert sum(p.grad is not None and bool(p.grad.any()) for p in model.parameters()) > 5


@pytest.mark.parametrize("name", STUDENTS)
def test_metres_follow_the_focal_length(name):
    model, side = student(name, "metric", canonical_focal=200.0).eval(), STUDENTS[name]
    assert model.spec.takes_camera
    assert model.spec.exportable == "no"
    image = torch.rand(1, 3, side, side)
    near, far = camera_from_fov(90, (side, side))[None], camera_from_fov(40, (side, side))[None]
    one, other = model(image, near), model(image, far)
    ratio = far[0, 0, 0] / near[0, 0, 0]
    assert torch.allclose(other.depth, one.depth * ratio, rtol=1e-5)
    unknown = model(image, torch.full((1, 3, 3), torch.nan))
    assert unknown.valid is not None
    assert not unknown.valid.any()
    assumed = student(name, "metric", canonical_focal=200.0, fov=90).eval()
    assert torch.allclose(assumed(image).depth, one.depth, rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"canonical_focal": 500.0}, "so it needs space: metric, not disparity"),
        ({"space": "metric", "fov": 60.0}, "so it needs canonical_focal"),
    ],
)
def test_options_that_mean_nothing_are_refused(options, message):
    with pytest.raises(ValidationError, match=message):
        SpaceOptions(**options)


def test_layouts_of_others_are_offered_only_for_what_others_compute():
    assert set(student("dav2/tiny", "disparity").layouts) == {"dav2", "hf", "encoder"}
    assert set(student("dav2/tiny", "depth").layouts) == {"encoder"}
    assert set(student("dav2/tiny", "metric", canonical_focal=200.0).layouts) == {"encoder"}


def test_a_step_gives_cameras_and_compares_nothing_without_one():
    """Two cameras see one picture: the student learns from both, and from none where the camera is unknown."""
    side = 28
    model = student("dav2/tiny", "metric", canonical_focal=200.0)
    cameras = torch.stack([camera_from_fov(90, (side, side)), torch.full((3, 3), torch.nan)])
    images = (torch.rand(1, 3, side, side) * 255).to(torch.uint8).expand(2, 3, side, side)
    depth = 2 + torch.rand(1, 1, side, side).expand(2, 1, side, side)

    def loss(rows: slice) -> float:
        seen = images[rows]
        count = len(seen)
        batch = Batch(
            ("a", "b")[:count],
            seen,
            seen,
            seen.new_zeros(count, 0, 3, 8, 8),
            torch.zeros(count, 0, 4),
            depth[rows],
            torch.ones(count, 1, side, side, dtype=torch.bool),
            Space.METRIC,
            cameras[rows],
        )
        term = LossTerm(SILogLoss(lam=0.5), on="labels")
        step = DistillationStep([StageTerm("silog", 1.0, term)], space=Space.METRIC, cameras=True)
        return float(step(model, None, batch).total.detach())

    assert loss(slice(0, 1)) > 0
    assert loss(slice(1, 2)) == 0
    assert loss(slice(0, 2)) == pytest.approx(loss(slice(0, 1)) / 2, rel=1e-5)


def test_a_teacher_labels_nothing_without_a_camera_and_a_run_without_any_stops(monkeypatch):
    side = 28
    teacher = FrozenTeacher(student("dav2/tiny", "metric", canonical_focal=200.0))
    images = (torch.rand(2, 3, side, side) * 255).to(torch.uint8)
    unknown = torch.full((3, 3), torch.nan)
    patches = images[:, None, :, :14, :14].repeat_interleave(2, -1).repeat_interleave(2, -2)
    boxes = torch.tensor([0.0, 0, 14, 14]).expand(2, 1, 4)

    def batch(*cameras):
        return Batch(("a", "b"), images, images, patches, boxes, intrinsics=torch.stack(cameras) if cameras else None)

    step = DistillationStep(
        [StageTerm("silog", 1.0, LossTerm(SILogLoss(), on="teachers"))],
        space=Space.METRIC,
        teachers=[Labeller("metres", teacher)],
        need_cameras=["metres"],
    )
    camera = camera_from_fov(90, (side, side))
    for cameras, known in (((), [False, False]), ((unknown, unknown), [False, False]), ((camera, unknown), [True, False])):
        seen = step.label(batch(*cameras), 0, regions=True, patches=True)
        assert seen.region_mask.flatten(1).all(1).tolist() == seen.region_mask.flatten(1).any(1).tolist() == known
        assert seen.patch_mask.flatten(1).all(1).tolist() == seen.patch_mask.flatten(1).any(1).tolist() == known
    monkeypatch.setattr("dadkit.training.step._WITHOUT_CAMERA", 4)
    model = student("dav2/tiny", "metric")
    assert float(step(model, batch()).total.detach()) == 0
    with pytest.raises(
        CameraError, match="none of the first 4 pictures has a camera, and metres answers in metres only with one"
    ):
        step(model, batch())
    step(model, batch(camera, unknown))
    for _ in range(3):
        step(model, batch())  # it has seen one: the data have cameras
