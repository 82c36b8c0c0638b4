"""CutMix: where rectangles lie, whose pixels they hold, and that the teacher's stay clean."""

from __future__ import annotations

import itertools

import pytest
import torch

from dadkit.contexts import Shared
from dadkit.data import Member, ProceduralScenes, Stream
from dadkit.data.perturbations import CutMix, Strong, inside, mix, part_bounds, partners, paste
from dadkit.data.sample import Batch


def generators(count, seed=0):
    return [torch.Generator().manual_seed(1000 * seed + index) for index in range(count)]


def make_batch(count, side=20):
    images = torch.arange(count, dtype=torch.uint8)[:, None, None, None].expand(count, 3, side, side).contiguous()
    return Batch(tuple(map(str, range(count))), images, images + 100, torch.zeros(count, 0, 3, 4, 4), torch.zeros(count, 0, 4))


@pytest.mark.parametrize("count", [2, 4, 5, 7])
def test_pixels_inside_come_from_the_partner_and_the_teachers_stay(count):
    batch = make_batch(count)
    mixed = mix(batch, CutMix(probability=1.0), generators(count))
    assert torch.equal(mixed.images, batch.images)
    for index, (view, (x0, y0, x1, y1)) in enumerate(zip(mixed.student_images, mixed.pasted.tolist(), strict=True)):
        other = partners(count)[index]
        assert other != index
        want = torch.full_like(view, 100 + index)
        want[:, y0:y1, x0:x1] = 100 + other
        assert torch.equal(view, want)
        assert 0 < (x1 - x0) * (y1 - y0) <= 0.4 * 20 * 20


def test_partners_are_neighbours():
    assert partners(6) == [1, 0, 3, 2, 5, 4]
    assert partners(5) == [1, 0, 3, 2, 3]
    assert partners(1) == [0]


@pytest.mark.parametrize(("count", "parts"), [(8, 1), (8, 2), (8, 3), (8, 8), (7, 2), (7, 3), (3, 3), (1, 2), (2, 5)])
def test_parts_keep_pairs_together(count, parts):
    bounds = part_bounds(count, parts)
    assert bounds[0] == 0
    assert bounds[-1] == count
    assert bounds == sorted(bounds)
    joined = []
    for start, stop in itertools.pairwise(bounds):
        joined += [start + other for other in partners(stop - start)]
    assert joined == partners(count)


def test_an_image_alone_is_not_mixed():
    mixed = mix(make_batch(1), CutMix(probability=1.0), generators(1))
    assert mixed.pasted.tolist() == [[0, 0, 0, 0]]
    assert torch.equal(mixed.student_images, make_batch(1).student_images)


def test_boxes_follow_their_distribution():
    size, cutmix = (60, 90), CutMix()
    boxes = torch.tensor([cutmix.box(size, g) for g in generators(3000)])
    width, height = boxes[:, 2] - boxes[:, 0], boxes[:, 3] - boxes[:, 1]
    some = (width > 0) & (height > 0)
    assert some.float().mean().item() == pytest.approx(0.5, abs=0.03)
    assert (boxes >= 0).all()
    assert (boxes[:, 2] <= 90).all()
    assert (boxes[:, 3] <= 60).all()
    area = (width * height)[some] / (60 * 90)
    assert area.max() <= 0.4
    assert area.mean().item() == pytest.approx(0.21, abs=0.03)  # a little less: sides are rounded down, and cut off
    inner = some & (height < 60) & (width < 90)
    ratio = (height / width.clamp(min=1))[inner]
    assert ratio.min() > 0.25
    assert ratio.max() < 4.2


def test_probability_zero_pastes_nothing():
    batch = make_batch(4)
    mixed = mix(batch, CutMix(probability=0.0), generators(4))
    assert torch.equal(mixed.student_images, batch.student_images)
    assert not mixed.pasted.any()


def test_inside_marks_the_rectangle():
    marked = inside(torch.tensor([[1, 0, 3, 2], [2, 2, 2, 4]]), (4, 5))
    assert marked.shape == (2, 1, 4, 5)
    assert marked[0, 0].nonzero().tolist() == [[0, 1], [0, 2], [1, 1], [1, 2]]
    assert not marked[1].any()
    maps = torch.arange(2.0)[:, None, None, None].expand(2, 1, 4, 5)
    assert torch.equal(paste(maps, torch.tensor([[1, 0, 3, 2], [2, 2, 2, 4]]))[0] == 1, marked[0])


def test_a_stream_is_mixed_the_same_way_however_it_is_read():
    def stream(workers, size=4):
        scenes = Member("scenes", ProceduralScenes(count=16, size=32))
        options = {"seed": 3, "name": "main/unlabelled", "perturb": Strong(), "cutmix": CutMix(), "workers": workers}
        return Stream([scenes], Shared(view_size=24, crop_min=28), batch_size=size, **options)

    with stream(0) as here, stream(1) as there:
        straight = [next(here) for _ in range(3)]
        read = [next(there) for _ in range(3)]
        assert any(batch.pasted.any() for batch in straight)
        assert not torch.equal(straight[0].pasted, straight[1].pasted), "every batch has rectangles of its own"
        for a, b in zip(straight, read, strict=True):
            assert all(torch.equal(x, y) for (_, x), (_, y) in zip(a.tensors(), b.tensors(), strict=True))
        with stream(0) as resumed:
            resumed.seek(8)
            assert torch.equal(next(resumed).student_images, straight[2].student_images)
    scenes = [Member("scenes", ProceduralScenes(count=16, size=32))]
    clean = Stream(scenes, Shared(view_size=24, crop_min=28), batch_size=4, seed=3, name="main/unlabelled")
    for batch in straight:
        plain = next(clean)
        assert torch.equal(batch.images, plain.images)
        assert plain.pasted is None
    assert not torch.equal(straight[0].student_images, straight[0].images)
