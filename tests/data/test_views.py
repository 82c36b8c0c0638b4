"""Views against outside witnesses: Pillow for pixels, plain loops for depth, projected points for cameras."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from dadkit.contexts import LocalGlobal, Shared, Whole
from dadkit.data import Sample
from dadkit.data.views import View, cut, stack
from dadkit.interfaces import Contexts
from dadkit.spaces import Space, SpaceError


def contexts(region, view=(48, 48), patches=(), patch=(24, 24)) -> Contexts:
    boxes = torch.tensor(patches, dtype=torch.float64).reshape(-1, 4)
    return Contexts(torch.tensor(region, dtype=torch.float64), view, boxes, patch)


def noise(height: int = 90, width: int = 120, seed: int = 0, *, labelled: bool = False) -> Sample:
    random = torch.Generator().manual_seed(seed)
    coarse = torch.rand(3, height // 8 + 1, width // 8 + 1, generator=random)
    image = torch.nn.functional.interpolate(coarse[None], (height, width), mode="bilinear")[0].mul(255).byte()
    if not labelled:
        return Sample(image, "key")
    depth = torch.rand(1, height, width, generator=random) + 1
    depth[:, :10] = torch.inf
    valid = torch.rand(1, height, width, generator=random) > 0.3
    camera = torch.tensor([[100.0, 0, 50.5], [0, 110, 40.25], [0, 0, 1]])
    return Sample(image, "key", depth, valid, Space.METRIC, camera)


def pillow(image: torch.Tensor, box, size: tuple[int, int]) -> torch.Tensor:
    whole = Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).numpy()))
    # Cropped first: pixels outside the box must not shine in.
    x0, y0, x1, y1 = box
    left, top, right, bottom = int(x0), int(y0), -int(-x1 // 1), -int(-y1 // 1)
    crop = whole.crop((left, top, right, bottom))
    shifted = (x0 - left, y0 - top, x1 - left, y1 - top)
    resized = crop.resize((size[1], size[0]), Image.Resampling.BICUBIC, box=shifted)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)


@pytest.mark.parametrize("layout", ["hwc", "chw"])
@pytest.mark.parametrize("box", [(3, 5, 83, 85), (0, 0, 120, 90), (10, 20, 40, 50), (2.5, 3.25, 60.75, 80.5)])
def test_pixels_are_pillows(box: tuple[float, ...], layout: str) -> None:
    sample = noise()
    if layout == "hwc":
        sample = Sample(sample.image.permute(1, 2, 0).contiguous().permute(2, 0, 1), "key")
    view = cut(sample, contexts(box, view=(48, 40)))
    assert view.image.shape == (3, 48, 40)
    assert view.image.is_contiguous()
    difference = (view.image.int() - pillow(sample.image, box, (48, 40)).int()).abs()
    assert difference.max() <= 2
    assert difference.float().mean() < 0.1


def test_a_box_of_the_wanted_size_is_copied() -> None:
    sample = noise()
    view = cut(sample, contexts((10, 20, 58, 68), patches=[(4, 5, 28, 29)]))
    assert torch.equal(view.image, sample.image[:, 20:68, 10:58])
    assert torch.equal(view.patches[0], sample.image[:, 25:49, 14:38])
    assert view.patches.shape == (1, 3, 24, 24)
    assert view.boxes.tolist() == [[4, 5, 28, 29]]
    view.image.zero_()
    assert sample.image[:, 20:68, 10:58].any()  # a copy


def test_shrinking_is_antialiased() -> None:
    stripes = torch.zeros(3, 64, 64, dtype=torch.uint8)
    stripes[..., ::2] = 255
    view = cut(Sample(stripes, "key"), contexts((0, 0, 64, 64), view=(16, 16)))
    assert (view.image[..., 2:-2].int() - 127).abs().max() <= 3


@given(st.floats(0, 40), st.floats(0, 40), st.floats(5, 50), st.floats(5, 50), st.integers(3, 70), st.integers(3, 70))
@settings(max_examples=40, deadline=None)
def test_depth_takes_the_pixel_under_each_centre(x0: float, y0: float, w: float, h: float, rows: int, columns: int) -> None:
    sample = noise(labelled=True)
    # A region of which less than half is valid is sparse: its pixels go where they fall, which another test shows.
    assume(sample.valid[0, int(y0) : math.ceil(y0 + h), int(x0) : math.ceil(x0 + w)].float().mean() >= 0.5)
    view = cut(sample, contexts((x0, y0, x0 + w, y0 + h), view=(rows, columns)))
    for i in range(0, rows, 7):
        for j in range(0, columns, 5):
            y, x = int(y0 + (i + 0.5) * h / rows), int(x0 + (j + 0.5) * w / columns)
            assert view.depth[0, i, j] == sample.depth[0, y, x]
            assert view.valid[0, i, j] == sample.valid[0, y, x]


def test_depth_holds_no_invented_value_and_infinity_stays() -> None:
    sample = noise(labelled=True)
    view = cut(sample, contexts((0, 0, 90, 90), view=(37, 37)))
    assert set(view.depth.flatten().tolist()) <= set(sample.depth.flatten().tolist())
    assert view.depth[:, :3].isinf().all()
    assert view.space is Space.METRIC
    assert cut(Sample(sample.image, "k", sample.depth, None, Space.DEPTH), contexts((0, 0, 90, 90))).valid.all()


def test_depth_is_converted_where_it_can_be() -> None:
    sample = noise(labelled=True)
    plain, converted = (cut(sample, contexts((0, 0, 90, 90)), space=space) for space in (None, Space.DISPARITY))
    assert converted.space is Space.DISPARITY
    assert torch.equal(converted.depth, 1 / plain.depth)  # 0 at infinity
    assert torch.equal(converted.valid, plain.valid)
    affine = Sample(sample.image, "k", sample.depth, sample.valid, Space.DEPTH)
    with pytest.raises(SpaceError):
        cut(affine, contexts((0, 0, 90, 90)), space=Space.DISPARITY)


@pytest.mark.parametrize("flip", [False, True])
def test_the_camera_of_the_view_projects_to_the_same_pixels(flip: bool) -> None:
    sample = noise(labelled=True)
    view = cut(sample, contexts((7, 9, 67, 79), view=(35, 48)), flip=flip)
    point = torch.tensor([0.3, -0.2, 2.0])
    u, v, w = sample.intrinsics @ point
    if flip:
        point[0] *= -1  # in the mirror
    found = view.intrinsics @ point
    x = (u / w - 7) * 48 / 60
    assert found[0] / found[2] == pytest.approx(float(48 - x if flip else x), rel=1e-5)
    assert found[1] / found[2] == pytest.approx(float((v / w - 9) * 35 / 70), rel=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_the_frame_says_where_the_whole_image_lies(flip: bool) -> None:
    sample = noise(80, 120)
    view = cut(sample, contexts((20, 10, 80, 70), view=(30, 60)), flip=flip)
    for u, v, x, y in ((-1, -80 / 120, 0, 0), (1, 80 / 120, 120, 80), (0, 0, 60, 40)):  # corners and centre
        found = view.frame @ torch.tensor([-u if flip else u, v, 1.0])  # in the mirror
        wanted_x, wanted_y = (x - 20) * 60 / 60, (y - 10) * 30 / 60
        assert found.tolist() == pytest.approx([60 - wanted_x if flip else wanted_x, wanted_y, 1], abs=1e-4)


def test_a_known_camera_is_kept_beside_an_unknown_one() -> None:
    known, unknown = (cut(noise(labelled=labelled), contexts((7, 9, 67, 79), view=(35, 48))) for labelled in (True, False))
    assert unknown.intrinsics is None
    batch = stack([replace(known, depth=None, valid=None, space=None), unknown])
    assert torch.equal(batch.intrinsics[0], known.intrinsics)
    assert batch.intrinsics[1].isnan().all()
    assert batch.frames.shape == (2, 3, 3)
    assert stack([unknown]).intrinsics is None


def test_flipping_is_cutting_the_mirrored_sample() -> None:
    sample = noise(labelled=True)
    patches = [(0, 0, 24, 24), (30, 13, 54, 37), (36.0, 36, 60, 60)]
    flipped = cut(sample, contexts((20, 10, 80, 70), patches=patches), flip=True)
    mirror = Sample(sample.image.flip(-1), "key", sample.depth.flip(-1), sample.valid.flip(-1), sample.space)
    mirrored = [(60 - x1, y0, 60 - x0, y1) for x0, y0, x1, y1 in patches]
    direct = cut(mirror, contexts((40, 10, 100, 70), patches=mirrored))
    assert (flipped.image.int() - direct.image.int()).abs().max() <= 1  # the resizing rounds its weights
    assert torch.equal(flipped.patches, direct.patches)
    assert torch.allclose(flipped.boxes, direct.boxes, atol=1e-5)
    assert torch.equal(flipped.depth, direct.depth)
    assert torch.equal(flipped.valid, direct.valid)
    assert flipped.student_image is flipped.image


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("size", [(300, 200), (90, 120)])
def test_patches_show_what_their_boxes_say(size: tuple[int, int], flip: bool) -> None:
    """The student's view, cropped at the box and brought to the patch's size, is the patch seen less sharply."""
    sample = noise(*size)
    sampler = LocalGlobal(view_size=96, crop_min=110, patch_size=80, overlap=8)
    found = sampler(size, torch.Generator().manual_seed(1))
    view = cut(sample, found, flip=flip)
    for patch, box in zip(view.patches, view.boxes.tolist(), strict=True):
        difference = (patch.int() - pillow(view.image, box, (80, 80)).int()).abs().float()
        assert difference.mean() < 2.5
        moved = (box[0] - 4, box[1], box[2] - 4, box[3]) if box[0] > 4 else (box[0] + 4, box[1], min(96, box[2] + 4), box[3])
        assert (patch.int() - pillow(view.image, moved, (80, 80)).int()).abs().float().mean() > 2 * difference.mean()


def test_perturbation_leaves_the_teachers_pixels_alone() -> None:
    def darken(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return image.mul_(0).add_(int(torch.randint(0, 255, (), generator=generator)))

    sample, boxes = noise(), contexts((0, 0, 90, 90))
    clean = cut(sample, boxes)
    assert clean.student_image is clean.image
    views = [cut(sample, boxes, perturb=darken, generator=torch.Generator().manual_seed(s)) for s in (1, 1, 2)]
    assert all(torch.equal(view.image, clean.image) for view in views)
    assert torch.equal(views[0].student_image, views[1].student_image)
    assert not torch.equal(views[0].student_image, views[2].student_image)
    with pytest.raises(ValueError, match="needs a generator"):
        cut(sample, boxes, perturb=darken)


@pytest.mark.parametrize(
    ("where", "message"),
    [
        (contexts((0, 0, 121, 90)), "not inside the image, 120 x 90"),
        (contexts((-1, 0, 50, 50)), "region"),
        (contexts((10, 10, 10, 50)), "region"),
        (contexts((0, 0, 60, 60), patches=[(0, 0, 61, 60)]), "patch .* not inside the region of 60 x 60"),
        (contexts((0, 0, 60, 60), patches=[(5, 5, 5, 9)]), "patch"),
    ],
)
def test_boxes_outside_are_refused(where: Contexts, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        cut(noise(), where)


def test_samples_of_wrong_shape_are_refused() -> None:
    sample, boxes = noise(labelled=True), contexts((0, 0, 60, 60))
    for bad, message in (
        (Sample(sample.image.float(), "k"), "uint8, not torch.float32"),
        (Sample(sample.image[None], "k"), "uint8"),
        (Sample(sample.image, "k", sample.depth[:, :-1], None, Space.METRIC), r"must be \(1, 90, 120\)"),
        (Sample(sample.image, "k", sample.depth), "space None"),
    ):
        with pytest.raises(ValueError, match=message):
            cut(bad, boxes)


@pytest.mark.parametrize("sampler", [Whole(32), Shared(32, 40), LocalGlobal(32, 40, patch_size=32, overlap=4)])
def test_views_of_any_images_stack(sampler) -> None:
    random = torch.Generator().manual_seed(0)
    views = []
    for number, size in enumerate([(90, 120), (33, 200), (500, 41), (64, 64)]):
        views.append(cut(noise(*size, seed=number, labelled=True), sampler(size, random), flip=number % 2 == 0))
    batch = stack(views)
    count = {Whole: 0, Shared: 0, LocalGlobal: 4}[type(sampler)]
    assert len(batch) == 4
    assert batch.keys == ("key",) * 4
    assert (batch.images.shape, batch.images.dtype) == ((4, 3, 32, 32), torch.uint8)
    assert batch.student_images is batch.images
    assert (batch.patches.shape, batch.patches.dtype) == ((4, count, 3, 32, 32), torch.uint8)
    assert (batch.boxes.shape, batch.boxes.dtype) == ((4, count, 4), torch.float32)
    assert (batch.depth.shape, batch.depth.dtype) == ((4, 1, 32, 32), torch.float32)
    assert (batch.valid.shape, batch.valid.dtype) == ((4, 1, 32, 32), torch.bool)
    assert batch.space is Space.METRIC
    assert batch.intrinsics.shape == (4, 3, 3)
    moved = batch.to(torch.device("cpu"))
    assert moved.student_images is moved.images


def test_views_that_do_not_match_are_refused() -> None:
    def view(size: int = 8, **fields) -> View:
        image = torch.zeros(3, size, size, dtype=torch.uint8)
        return View("k", image, image, torch.zeros(0, 3, 4, 4, dtype=torch.uint8), torch.zeros(0, 4), **fields)

    with pytest.raises(ValueError, match="must share one shape, but image"):
        stack([view(8), view(9)])
    depth = {"depth": torch.ones(1, 8, 8), "valid": torch.ones(1, 8, 8, dtype=torch.bool)}
    with pytest.raises(ValueError, match=r"one space .* \['depth', 'metric'\]"):
        stack([view(**depth, space=Space.DEPTH), view(**depth, space=Space.METRIC)])
    perturbed = view()
    perturbed = View("k", perturbed.image, perturbed.image + 1, perturbed.patches, perturbed.boxes)
    batch = stack([view(), perturbed])
    assert batch.student_images.unique().tolist() == [0, 1]
    assert batch.images.unique().tolist() == [0]
