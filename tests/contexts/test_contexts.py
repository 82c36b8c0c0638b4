"""Boxes of the context samplers: where they may lie, what they must cover, and that nothing but the generator decides them."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dadkit.contexts import LocalGlobal, Shared, Whole, cells_needed, cover
from dadkit.interfaces import Contexts, ContextSampler
from dadkit.losses import local_global_loss

SIZES = st.tuples(st.integers(16, 3000), st.integers(16, 3000))
SEEDS = st.integers(0, 2**63 - 1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@st.composite
def samplers(draw: st.DrawFn) -> LocalGlobal:
    """Any legal LocalGlobal, from toy sizes to the paper's."""
    crop_min = draw(st.integers(16, 700))
    patch_size = draw(st.integers(max(4, crop_min // 4), crop_min))
    n = draw(st.one_of(st.just("all"), st.integers(1, 20)))
    layout = "cover" if n == "all" else draw(st.sampled_from(["cover", "random"]))
    crop_max = draw(st.none() | st.integers(crop_min, 2 * crop_min))
    overlap = draw(st.integers(0, patch_size * 3 // 4))
    view_size = draw(st.integers(8, 700))
    assume(view_size <= 1.5 * crop_min)  # what lies between this and 2 is refused only where rounding asks for it
    return LocalGlobal(view_size, crop_min, crop_max, patch_size, n, layout, overlap)


def sides(boxes: torch.Tensor) -> torch.Tensor:
    return boxes[..., 2:] - boxes[..., :2]


def inside_image(region: torch.Tensor, size: tuple[int, int]) -> bool:
    x0, y0, x1, y1 = region.tolist()
    return 0 <= x0 < x1 <= size[1] and 0 <= y0 < y1 <= size[0]


@pytest.mark.parametrize("sampler", [Whole(), Shared(), LocalGlobal()])
def test_samplers_satisfy_the_protocol(sampler: ContextSampler) -> None:
    assert isinstance(sampler, ContextSampler)


def test_defaults_are_the_papers() -> None:
    found = LocalGlobal()((1500, 2000), generator())
    assert found.view_size == found.patch_size == (560, 560)
    assert found.patches.shape == (4, 4)
    assert found.region.dtype == found.patches.dtype == torch.float64
    assert (sides(found.patches) == 560).all()
    shared = Shared()((1500, 2000), generator())
    assert shared.view_size == (560, 560)
    assert shared.patches.shape == (0, 4)


@given(SIZES, SEEDS, st.integers(8, 800), st.none() | st.integers(0, 500))
def test_shared_region_is_a_square_of_legal_side(size: tuple[int, int], seed: int, crop_min: int, more: int | None) -> None:
    crop_max = None if more is None else crop_min + more
    region = Shared(view_size=32, crop_min=crop_min, crop_max=crop_max)(size, generator(seed)).region
    assert inside_image(region, size)
    width, height = sides(region).tolist()
    shortest = min(size)
    assert width == height
    assert width == shortest if shortest < crop_min else crop_min <= width <= min(shortest, crop_max or shortest)


def test_region_side_and_place_are_uniform() -> None:
    sampler, random = Shared(crop_min=10), generator(3)
    regions = torch.stack([sampler((14, 20), random).region for _ in range(5000)])
    lengths = Counter(sides(regions)[:, 0].int().tolist())
    assert set(lengths) == {10, 11, 12, 13, 14}
    assert all(850 < count < 1150 for count in lengths.values())  # 1000 each, sd 28
    rights = regions[sides(regions)[:, 0] == 14][:, 0]
    assert set(rights.tolist()) == set(range(7))  # 20 - 14 + 1 places


@given(samplers(), SIZES, SEEDS)
def test_patches_lie_in_the_region_and_sizes_never_vary(sampler: LocalGlobal, size: tuple[int, int], seed: int) -> None:
    found = sampler(size, generator(seed))
    assert inside_image(found.region, size)
    length = float(sides(found.region)[0])
    assert found.view_size == (sampler.view_size,) * 2
    assert found.patch_size == (sampler.patch_size,) * 2
    assert found.patches.shape == (sampler.count, 4)
    assert (found.patches[:, :2] >= 0).all()
    assert (found.patches[:, 2:] <= length).all()
    assert (sides(found.patches) > 0).all()
    assert len({*map(tuple, sides(found.patches).tolist())}) == 1
    if length >= sampler.crop_min:
        assert (sides(found.patches) == sampler.patch_size).all()
    else:
        assert abs(float(sides(found.patches)[0, 0]) - length * sampler.patch_size / sampler.crop_min) <= 1.5


@given(samplers(), SIZES, SEEDS)
def test_student_map_is_never_minified_more_than_twice(sampler: LocalGlobal, size: tuple[int, int], seed: int) -> None:
    found = sampler(size, generator(seed))
    assert not (sides(found.boxes_in_view()) > 2 * sampler.patch_size).any()  # what local_global_loss asks, without tolerance


@pytest.mark.parametrize("crop_min", [64, 80, 100])
def test_the_loss_takes_boxes_up_to_the_limit(crop_min: int) -> None:
    patch_size = crop_min // 2
    legal = []
    for view_size in range(crop_min, 2 * crop_min + 3):
        try:
            legal.append(LocalGlobal(view_size, crop_min, patch_size=patch_size, overlap=0))
        except ValueError:
            continue
    assert 1.8 * crop_min < legal[-1].view_size < 2 * crop_min
    for side in (*range(16, crop_min + 20), 300):
        boxes = legal[-1]((side, side), generator(side)).boxes_in_view()[None]
        target = torch.rand(1, 4, patch_size, patch_size)
        view = legal[-1].view_size
        assert local_global_loss(torch.rand(1, 1, view, view), target, boxes).isfinite()


@given(samplers(), SIZES, SEEDS)
def test_all_patches_cover_the_region_with_the_overlap(sampler: LocalGlobal, size: tuple[int, int], seed: int) -> None:
    assume(sampler.n == "all")
    found = sampler(size, generator(seed))
    length = int(sides(found.region)[0])
    covered = torch.zeros(length, length, dtype=torch.bool)
    for x0, y0, x1, y1 in found.patches.int().tolist():
        covered[y0:y1, x0:x1] = True
    assert covered.all()
    least = sampler.overlap if length >= sampler.crop_min else sampler.overlap * length // sampler.crop_min
    for starts in (found.patches[:, 0], found.patches[:, 1]):
        begins = starts.unique()  # sorted
        side = float(sides(found.patches)[0, 0])
        assert (begins[:-1] + side - begins[1:] >= least).all()


@pytest.mark.parametrize("overlap", [0, 3, 7])
def test_rounding_leaves_no_gap_in_small_regions(overlap: int) -> None:
    sampler = LocalGlobal(view_size=40, crop_min=40, crop_max=40, patch_size=20 + overlap // 2, n="all", overlap=overlap)
    for length in range(16, 41):
        covered = torch.zeros(length, length, dtype=torch.bool)
        for x0, y0, x1, y1 in sampler((length, length), generator(length)).patches.int().tolist():
            covered[y0:y1, x0:x1] = True
        assert covered.all(), length


@given(st.integers(1, 3000), st.data())
def test_cover_keeps_its_promises(length: int, data: st.DataObject) -> None:
    side = data.draw(st.integers(max(1, length // 40), length))
    overlap = data.draw(st.integers(0, side - 1))
    needed = cells_needed(length, side, overlap)
    assume(needed < 200)
    cells = needed + data.draw(st.integers(0, 3))
    starts = cover(length, side, overlap, cells, generator(data.draw(SEEDS)))
    assert starts.shape == (cells,)
    assert starts[0] == 0
    assert starts[-1] == length - side
    steps = starts.diff()
    assert (steps >= 0).all()
    assert (steps <= side - overlap).all()
    assert (starts == starts.round()).all()


def test_cells_needed_is_the_formula_of_the_method() -> None:
    assert cells_needed(644, 560, 56) == 2
    assert cells_needed(1064, 560, 56) == 2  # 2 * 560 - 56
    assert cells_needed(1065, 560, 56) == 3
    assert cells_needed(3000, 560, 56) == 6  # ceil(2944 / 504)
    assert cells_needed(10, 10, 0) == 2


def test_inner_cells_are_jittered_and_outer_ones_stay() -> None:
    draws = torch.stack([cover(1300, 560, 56, 3, generator(seed)) for seed in range(200)])
    assert draws[:, 0].unique().tolist() == [0]
    assert draws[:, 2].unique().tolist() == [740]
    middle = draws[:, 1]
    assert middle.unique().numel() > 50
    assert middle.min() < 320 < 370 < 420 < middle.max()  # 370 without jitter, room (504 - 370) / 2 = 67


@given(samplers(), SIZES, SEEDS)
@settings(max_examples=30)
def test_only_the_generator_decides(sampler: LocalGlobal, size: tuple[int, int], seed: int) -> None:
    torch.manual_seed(0)
    first = sampler(size, generator(seed))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    second = sampler(size, generator(seed))
    assert torch.equal(torch.get_rng_state(), before)  # the global generator is not touched
    assert torch.equal(first.region, second.region)
    assert torch.equal(first.patches, second.patches)


def test_another_seed_gives_other_boxes() -> None:
    boxes = {tuple(LocalGlobal()((2000, 2000), generator(seed)).region.tolist()) for seed in range(20)}
    assert len(boxes) == 20


def test_cells_are_drawn_without_replacement_and_all_get_their_turn() -> None:
    sampler = LocalGlobal(view_size=64, crop_min=80, crop_max=80, patch_size=32, overlap=4, n=4)  # 3 x 3 cells
    seen: Counter[tuple[float, ...]] = Counter()
    for seed in range(400):
        corners = [tuple(p[:2]) for p in sampler((80, 80), generator(seed)).patches.tolist()]
        assert len(set(corners)) == 4
        seen.update(tuple(round(c / 24) for c in corner) for corner in corners)
    assert len(seen) == 9
    assert all(120 < count < 240 for count in seen.values())  # 400 * 4 / 9 = 178 each


def test_more_patches_than_the_smallest_grid_holds_widen_the_grid() -> None:
    found = LocalGlobal(n=7)((700, 700), generator())
    assert len({tuple(p[:2]) for p in found.patches.tolist()}) == 7


def test_all_limits_the_region_so_that_every_image_gives_as_many_patches() -> None:
    sampler = LocalGlobal(n="all")
    assert sampler.count == 4
    lengths = [float(sides(sampler((4000, 3000), generator(seed)).region)[0]) for seed in range(100)]
    assert max(lengths) <= 1064
    wider = LocalGlobal(n="all", crop_max=1500)
    assert wider.count == 9
    assert {wider((h, h), generator(h)).patches.shape[0] for h in (100, 700, 1200, 4000)} == {9}


def test_whole_is_the_whole_image() -> None:
    found = Whole(view_size=96)((200, 300), generator())
    assert found.region.tolist() == [0, 0, 300, 200]
    assert found.view_size == (96, 96)
    assert found.patches.shape == (0, 4)
    assert Whole(view_size=(64, 96))((200, 300), generator()).view_size == (64, 96)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"patch_size": 700}, "patch_size must be 1 to crop_min"),
        ({"overlap": 560}, "overlap must be"),
        ({"overlap": -1}, "overlap must be"),
        ({"n": 0}, "n must be"),
        ({"layout": "spiral"}, "layout must be"),
        ({"layout": "random", "n": "all"}, "needs a number"),
        ({"crop_max": 600}, "smaller than crop_min"),
        ({"view_size": 0}, "at least 1"),
        ({"view_size": 1400}, "no gradient"),
        ({"view_size": 1400, "patch_size": 56, "overlap": 8}, "no gradient"),
    ],
)
def test_senseless_options_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LocalGlobal(**options)


def test_too_small_an_image_is_refused() -> None:
    with pytest.raises(ValueError, match="12 x 300 pixels is too small"):
        LocalGlobal()((300, 12), generator())


def test_boxes_in_view_follow_the_region() -> None:
    found = Contexts(
        torch.tensor([100.0, 50, 1100, 1050], dtype=torch.float64),
        (500, 500),
        torch.tensor([[0.0, 200, 560, 760]], dtype=torch.float64),
        (560, 560),
    )
    assert found.boxes_in_view().tolist() == [[0, 100, 280, 380]]
