"""Every cell of the page of spaces: conversions, sky, cameras; and plugins written for the contract before cameras."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dadkit.interfaces import (
    CameraError,
    Estimate,
    FrozenTeacher,
    ModelSpec,
    Prediction,
    Space,
    SpaceError,
    Student,
    camera_from_fov,
    crop_camera,
    flip_camera,
    resize_camera,
)

PAGE = (Path(__file__).parents[2] / "docs" / "spaces.md").read_text()
VALUES = torch.tensor([0.0, 0.5, 2.0, torch.inf]).view(1, 1, 1, 4)


def cells():
    head, *rows = re.search(r"\| from \\ to (.*\n)\|[-|]+\n((?:\|.*\n)+)", PAGE).expand(r"\1\2").strip().split("\n")
    targets = re.findall(r"`(\w+)`", head)
    for row in rows:
        source, *answers = [cell.strip().strip("`") for cell in row.strip("|").split("|")]
        yield from ((source, target, answer) for target, answer in zip(targets, answers, strict=True))


@pytest.mark.parametrize(("source", "target", "answer"), list(cells()))
def test_a_cell_of_the_table_of_conversions(source, target, answer):
    prediction = Prediction(VALUES, source)
    if answer == "refused":
        with pytest.raises(SpaceError, match=f"'{target}' is wanted: .*Use a component whose space is '{target}'"):
            prediction.to_space(target)
        return
    result = prediction.to_space(target)
    assert result.space == target
    if answer == "itself":
        assert torch.equal(result.depth, VALUES)
    else:
        assert result.depth.flatten().tolist() == [0, 2, 0.5, 0]
        assert result.valid.flatten().tolist() == [False, True, True, True]


def test_the_table_has_every_pair_of_spaces():
    assert {(source, target) for source, target, _ in cells()} == {(one, other) for one in Space for other in Space}


@pytest.mark.parametrize(("source", "target", "value"), [
    ("metric", "metric", torch.inf), ("metric", "scale", torch.inf), ("scale", "scale", torch.inf),
    ("metric", "disparity", 0.0), ("scale", "disparity", 0.0), ("disparity", "disparity", 0.0),
    ("metric", "depth", None), ("scale", "depth", None), ("depth", "depth", None),
])  # fmt: skip
@pytest.mark.parametrize("masked", [True, False])
def test_sky(source, target, value, masked):
    sky = torch.tensor([True, False]).view(1, 1, 1, 2)
    given = torch.tensor([False, True]).view(1, 1, 1, 2) if masked else None
    result = Prediction(torch.tensor([7.0, 2.0]).view(1, 1, 1, 2), source, given, sky=sky).to_space(target)
    valid = torch.ones_like(sky) if result.valid is None else result.valid
    assert valid.flatten().tolist() == [value is not None, True]
    if value is not None:
        assert result.depth[0, 0, 0, 0] == value
    assert result.depth[valid & ~sky].isfinite().all()


class Reads(Student):
    """A metric teacher that answers what its camera says: metres that do not depend on how the picture was cut or resized."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = ModelSpec("reads", space=Space.METRIC, takes_camera=True, canonical_focal=50.0, align_corners=True)

    def estimate(self, x: Tensor) -> Estimate:
        # The size of things in pixels, as a network would find it: the slope of a ramp across the picture.
        slope = (x[:, 0, :, -1] - x[:, 0, :, 0]).mean(-1) / (x.shape[-1] - 1)
        return Estimate((slope * 100).view(-1, 1, 1, 1).expand(-1, 1, *x.shape[-2:]), sky=x[:, :1] > 0.7)

    def normalized(self, images: Tensor) -> Tensor:
        return images


def test_a_crop_a_flip_and_a_resized_copy_give_the_same_metres():
    teacher = FrozenTeacher(Reads())
    image = (torch.arange(80) / 100).expand(1, 3, 60, 80)
    camera = camera_from_fov(70, (60, 80))[None]
    metres = teacher(image, camera).depth.mean()
    wide = (torch.arange(160) / 200).expand(1, 3, 120, 160)
    crop = teacher(image[..., 10:50, 20:70], crop_camera(camera, (20, 10))).depth
    twice = teacher(wide, resize_camera(camera, (60, 80), (120, 160))).depth
    flipped = teacher(image.flip(-1), flip_camera(camera, 80)).depth
    for depth in (crop, twice, -flipped):
        assert torch.allclose(depth, metres.expand_as(depth), rtol=1e-4)
    assert flip_camera(flip_camera(camera, 80), 80).equal(camera)
    assert teacher(wide, camera).depth.mean() < 0.6 * metres  # a camera that was left behind
    assert teacher.predict([image[0], image[0]], cameras=camera[0], batch_size=1).depth.shape[0] == 2


def test_a_picture_of_unknown_camera_has_no_answer_whatever_its_neighbours():
    """NaN is a picture's own unknown camera; None is a call that forgot cameras."""
    image = (torch.arange(80) / 100).expand(2, 3, 60, 80)
    camera, unknown = camera_from_fov(70, (60, 80)), torch.full((3, 3), torch.nan)
    teacher = FrozenTeacher(Reads())
    assert teacher.needs_camera
    for cameras in (torch.stack([camera, unknown]), torch.stack([unknown, unknown])):
        answer = teacher(image, cameras)
        assert answer.valid.flatten(1).all(1).tolist() == cameras.isfinite().flatten(1).all(1).tolist()
        assert not answer.to_space("disparity").valid[1].any()
    with pytest.raises(CameraError, match="NaN where one is unknown, or the model's option fov"):
        teacher(image)
    assuming = Reads()
    assuming.fov = 70.0
    assuming = FrozenTeacher(assuming)
    assert not assuming.needs_camera
    assert torch.equal(assuming(image, torch.stack([unknown, camera])).depth, assuming(image).depth)


class Older(Student):
    """A model of the contract before cameras, with everything overridden that could be."""

    def __init__(self) -> None:
        super().__init__()
        self.spec = ModelSpec("older", space=Space.DISPARITY)

    def estimate(self, x: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return x.mean(1, keepdim=True), {}

    def predict_batch(self, images: Tensor) -> Prediction:
        return self._run(images, (images.shape[-2], images.shape[-1]))


def test_a_model_of_api_1_is_not_asked_with_cameras():
    camera = camera_from_fov(70, (6, 8))
    for model in (Older(), FrozenTeacher(Older())):
        assert model(torch.rand(1, 3, 6, 8), camera[None]).depth.shape == (1, 1, 6, 8)
        assert model.predict(torch.rand(3, 6, 8), cameras=camera).sky is None


def test_cameras_of_patches_follow_their_boxes():
    """A native-detail patch sees more pixels of a smaller part: its focal length grows, and its axis moves."""
    from dadkit.data import Batch

    camera = camera_from_fov(70, (60, 60))
    views, patches = torch.zeros(1, 3, 60, 60, dtype=torch.uint8), torch.zeros(1, 1, 3, 80, 80, dtype=torch.uint8)
    batch = Batch(("a",), views, views, patches, torch.tensor([[[10.0, 20.0, 50.0, 60.0]]]), intrinsics=camera[None])
    expected = resize_camera(crop_camera(camera, (10, 20)), (40, 40), (80, 80))
    assert torch.allclose(batch.patch_cameras()[0, 0], expected)


def test_a_photographs_camera_comes_from_the_lens_or_its_exif_data(tmp_path):
    from PIL import Image

    from dadkit.data.images import exif_focal
    from dadkit.prediction.camera import Lens, given_cameras

    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = 26
    Image.new("RGB", (40, 30)).save(tmp_path / "phone.jpg", exif=exif)
    Image.new("RGB", (40, 30)).save(tmp_path / "plain.jpg")
    focal = exif_focal(tmp_path / "phone.jpg", (3000, 4000))
    assert abs(focal - 26 / 43.267 * 5000) < 1
    assert exif_focal((tmp_path / "plain.jpg").read_bytes(), (30, 40)) is None
    files = [tmp_path / "phone.jpg", tmp_path / "plain.jpg"]
    known, unknown = given_cameras(None, (30, 40), files)
    assert known[:2, 2].tolist() == [20, 15]
    assert not unknown.isfinite().all()
    assert given_cameras(Lens(focal=50), (30, 40), files)[:, 0, 0].tolist() == [50, 50]
    assert given_cameras(None, (30, 40), files[1:]) is None

    # Training sees it too, in pixels of the picture; where nothing is known there is no camera.
    from dadkit.data import Images

    phone, plain = Images(tmp_path, min_size=1)[0], Images(tmp_path, min_size=1)[1]
    assert torch.allclose(phone.intrinsics, known)
    assert plain.intrinsics is None

    # A file of cameras comes first, and what it does not name keeps its own.
    (tmp_path / "cameras.json").write_text('{"plain": {"fx": 33, "fy": 34, "cx": 20.5, "cy": 15}}')
    phone, plain = Images(tmp_path, min_size=1, intrinsics=tmp_path / "cameras.json")
    assert torch.allclose(phone.intrinsics, known)
    assert plain.intrinsics.tolist() == [[33, 0, 20.5], [0, 34, 15], [0, 0, 1]]
    assert (phone.camera_from, plain.camera_from) == ("exif", "data")
    with pytest.raises(ValueError, match="leave one out"):
        Images(tmp_path, min_side=10, intrinsics=tmp_path / "cameras.json")


def test_every_tile_gets_the_camera_of_its_part():
    from dadkit.prediction.predict import predict_tiled

    seen = []

    class Watches(Reads):
        def predict_batch(self, images, cameras=None):
            seen.append((tuple(images.shape[-2:]), cameras.clone()))
            return super().predict_batch(images, cameras)

    camera = camera_from_fov(70, (32, 64))
    predict_tiled(Watches(), torch.randint(0, 255, (3, 32, 64), dtype=torch.uint8), 32, cameras=camera[None])
    (size, whole), *parts = seen
    assert size == (32, 64)
    assert torch.equal(whole[0], camera)
    assert len(parts) > 1
    assert {tuple(shape) for shape, _ in parts} == {(32, 32)}
    assert all(torch.equal(own[0, :2, :2], camera[:2, :2]) for _, own in parts)
    assert float(parts[0][1][0, 0, 2]) == float(camera[0, 2])
    assert float(parts[-1][1][0, 0, 2]) == float(camera[0, 2]) - 32
