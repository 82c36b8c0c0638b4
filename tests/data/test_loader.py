"""Streams: bit-identical whatever the workers, resumable from a number, and honest about what could not be read."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.contexts import LocalGlobal, Shared, Whole
from dadkit.data import Batch, Images, Member, Sample, SampleError, Stream, build_streams
from dadkit.errors import DataError
from dadkit.spaces import Space, SpaceError

CONTEXTS = LocalGlobal(view_size=24, crop_min=32, patch_size=24, overlap=4)


class Numbers:
    """Sample i is an image full of i, in another size each; those in ``broken`` cannot be read."""

    def __init__(self, count: int, broken: Sequence[int] = (), space: Space | None = None, first: int = 0) -> None:
        self.count, self.broken, self.space, self.first = count, frozenset(broken), space, first

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        if index in self.broken:
            raise SampleError(f"file-{index}: broken")
        height, width = 40 + index % 7, 40 + index % 11
        image = torch.full((3, height, width), (self.first + index) % 256, dtype=torch.uint8)
        depth = None if self.space is None else torch.full((1, height, width), float(index + 1))
        return Sample(image, str(self.first + index), depth, None, self.space)


def noisy(image: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return torch.randint(0, 256, image.shape, generator=generator, dtype=torch.uint8)


def stream(*datasets: Any, weights: Sequence[float] = (), **options: Any) -> Stream:
    weights = weights or [1.0] * len(datasets)
    members = [Member(f"d{i}", d, w) for i, (d, w) in enumerate(zip(datasets, weights, strict=True))]
    return Stream(members, **({"contexts": CONTEXTS, "batch_size": 4, "seed": 0, "name": "main/unlabelled"} | options))


def same(first: Batch, second: Batch) -> bool:
    ours, theirs = dict(first.tensors()), dict(second.tensors())
    return (
        first.keys == second.keys
        and ours.keys() == theirs.keys()
        and all(torch.equal(ours[name], theirs[name]) for name in ours)
    )


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """100 photographs of which 10 are corrupt in different ways, some of them side by side."""
    random = np.random.default_rng(0)
    for number in range(100):
        path = tmp_path / f"{number:03d}.jpg"
        Image.fromarray(random.integers(0, 255, (66, 70, 3), dtype=np.uint8)).save(path)
        data = path.read_bytes()
        corrupt = {7: b"", 20: data[:500], 21: b"<html>", 22: data[: len(data) // 2], 23: b"x" * 50}
        corrupt |= {50: data[:2], 51: data[100:], 80: b"\0" * 900, 81: data[:700], 99: b"RIFF"}
        path.write_bytes(corrupt.get(number, data))
    return tmp_path


# ------------------------------------------------------------------------------------------- determinism


def test_batches_do_not_depend_on_the_number_of_workers(photos: Path) -> None:
    def first(workers: int) -> tuple[list[Batch], Stream]:
        with stream(Images(photos), Numbers(30), weights=[2, 1], workers=workers, perturb=noisy, seed=3) as it:
            return list(islice(it, 12)), it

    expected, inline = first(0)
    for workers in (1, 2):
        found, it = first(workers)
        assert all(map(same, found, expected))
        assert it.state() == inline.state()
    assert inline.failed_reads > 0
    assert not torch.equal(expected[0].images, expected[0].student_images)


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_from_a_position_repeats_an_uninterrupted_stream(photos: Path, workers: int) -> None:
    whole = list(islice(stream(Images(photos)), 10))
    with stream(Images(photos), workers=workers) as resumed:
        resumed.seek(6 * 4)
        assert all(map(same, islice(resumed, 4), whole[6:]))
        assert resumed.position == 40
        resumed.seek(0)
        assert same(next(resumed), whole[0])


def test_positions_count_samples_whatever_the_batch_size() -> None:
    small, large = stream(Numbers(50), batch_size=2), stream(Numbers(50), batch_size=6)
    by_two = [key for batch in islice(small, 12) for key in batch.keys]
    by_six = [key for batch in islice(large, 4) for key in batch.keys]
    assert by_two == by_six
    large.seek(7)
    assert list(next(large).keys) == by_two[7:13]


def test_seed_and_name_decide_and_the_global_generator_does_not() -> None:
    torch.manual_seed(0)
    first = next(stream(Numbers(50)))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with stream(Numbers(50), workers=1) as it:
        assert same(next(it), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(next(stream(Numbers(50), seed=1)), first)
    assert not same(next(stream(Numbers(50), name="main/labelled")), first)


def test_spawned_workers_give_the_same(photos: Path) -> None:
    with stream(Images(photos), workers=1, start_method="spawn") as spawned:
        assert all(map(same, islice(spawned, 2), islice(stream(Images(photos)), 2)))


# ----------------------------------------------------------------------------------- epochs and mixtures


def test_an_epoch_meets_every_sample_once() -> None:
    it = stream(Numbers(40), batch_size=8)
    assert it.samples_per_epoch == 40
    epochs = [[key for batch in islice(it, 5) for key in batch.keys] for _ in range(3)]
    assert all(sorted(map(int, epoch)) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_mixtures_keep_their_shares_and_each_dataset_its_epochs() -> None:
    it = stream(Numbers(30), Numbers(10, first=100), weights=[3, 1], batch_size=8)
    keys = [int(key) for batch in islice(it, 20) for key in batch.keys]  # 160 = 120 + 40
    counts = Counter(keys)
    assert all(counts[i] == 4 for i in range(30))
    assert all(counts[i] == 4 for i in range(100, 110))
    assert it.samples_per_epoch == 40


def test_flips_come_with_their_probability() -> None:
    class Ramp:
        def __len__(self) -> int:
            return 1000

        def __getitem__(self, index: int) -> Sample:
            return Sample(torch.arange(64, dtype=torch.uint8).expand(3, 64, 64), str(index))

    def share(flip: float) -> float:
        it = stream(Ramp(), contexts=Whole(16), flip=flip, batch_size=200)
        return float((next(it).images[:, 0, 0, 0] > 32).float().mean())

    assert share(0) == 0
    assert share(1) == 1
    assert 0.35 < share(0.5) < 0.65


# ------------------------------------------------------------------------------------------------ labels


def test_labels_are_dropped_required_or_converted() -> None:
    labelled = Numbers(20, space=Space.METRIC)
    unlabelled = next(stream(labelled))
    assert unlabelled.depth is unlabelled.valid is unlabelled.space is None
    metric = next(stream(labelled, labelled=True))
    assert metric.space is Space.METRIC
    assert metric.depth[:, 0, 0, 0].tolist() == [int(key) + 1 for key in metric.keys]
    assert metric.valid.all()
    mixed = next(stream(labelled, Numbers(20, space=Space.DISPARITY), labelled=True, space=Space.DISPARITY))
    assert mixed.space is Space.DISPARITY
    with pytest.raises(DataError, match=r"dataset 'd0' stands under labelled data, but '.*' has no depth"):
        next(stream(Numbers(20), labelled=True))
    with pytest.raises(SpaceError):
        next(stream(Numbers(20, space=Space.DEPTH), labelled=True, space=Space.DISPARITY))
    with pytest.raises(ValueError, match="one space"):
        next(stream(labelled, Numbers(20, space=Space.DEPTH), labelled=True))


def test_patches_are_left_out_where_nobody_looks() -> None:
    with_patches, without = next(stream(Numbers(20))), next(stream(Numbers(20), patches=False))
    assert with_patches.patches.shape[1] == 4
    assert without.patches.shape == (4, 0, 3, 24, 24)
    assert without.boxes.shape == (4, 0, 4)
    assert torch.equal(with_patches.images, without.images)


# ------------------------------------------------------------------------------------------------ errors


@pytest.mark.parametrize("workers", [0, 2])
def test_ten_corrupt_photos_of_a_hundred_are_counted_once_each(photos: Path, workers: int) -> None:
    with stream(Images(photos), batch_size=10, workers=workers) as it:
        keys = [key for batch in islice(it, 30) for key in batch.keys]  # three epochs
    corrupt = {f"{n:03d}" for n in (7, 20, 21, 22, 23, 50, 51, 80, 81, 99)}
    assert it.errors.keys() == corrupt
    assert "the file is empty" in it.errors["007"]
    assert "a web page" in it.errors["021"]
    assert it.failed_reads >= 30  # at least once an epoch, and again as a replacement
    assert it.reads == 300 + it.failed_reads
    assert not corrupt & set(keys)
    assert len(set(keys)) == 90
    # Replacements are spread: no good photograph takes the share of all the broken ones beside it.
    assert max(Counter(keys).values()) <= 3 * 3


def test_too_many_unreadable_samples_stop_the_run() -> None:
    it = stream(Numbers(1000, broken=range(0, 1000, 3)), max_error_rate=0.2, min_reads=100)
    with pytest.raises(
        DataError, match=r"(?s)of the 1\d\d samples that stream 'main/unlabelled' has tried .*file-\d+: broken"
    ) as e:
        list(islice(it, 100))
    assert e.value.exit_code == 3
    assert it.reads >= 100
    tolerant = stream(Numbers(1000, broken=range(0, 1000, 3)), max_error_rate=0.5)
    assert len(list(islice(tolerant, 60))) == 60
    strict = stream(Numbers(1000, broken=range(0, 1000, 3)), max_error_rate=0)
    with pytest.raises(DataError, match="max_error_rate = 0 allows"):
        list(islice(strict, 10))


@pytest.mark.parametrize("workers", [0, 1])
def test_a_dataset_of_which_nothing_can_be_read_says_so(workers: int) -> None:
    it = stream(Numbers(20, broken=range(20)), Numbers(5), max_error_rate=1.0, workers=workers)
    with it, pytest.raises(DataError, match=r"^dataset 'd0': 20 samples in a row could not be read, the last d0/\d+: file-"):
        next(it)


def test_the_account_of_errors_survives_a_restart() -> None:
    dataset = Numbers(100, broken=range(10))
    whole = stream(dataset, batch_size=10)
    list(islice(whole, 20))
    first = stream(dataset, batch_size=10)
    list(islice(first, 7))
    second = stream(dataset, batch_size=10)
    second.restore(first.state())
    list(islice(second, 13))
    assert second.state() == whole.state()
    assert len(second.errors) == 10


def test_two_datasets_of_one_name_are_told_apart() -> None:
    it = Stream(
        [Member("images", Numbers(20, broken=[3])), Member("images", Numbers(20, broken=[3]))],
        CONTEXTS,
        batch_size=8,
        seed=0,
        name="main/unlabelled",
    )
    list(islice(it, 5))
    assert it.errors == {"images/3": "file-3: broken", "images#2/3": "file-3: broken"}


def test_other_exceptions_of_a_dataset_end_the_run() -> None:
    class Buggy(Numbers):
        def __getitem__(self, index: int) -> Sample:
            raise KeyError("a bug")

    for workers in (0, 1):
        with stream(Buggy(5), workers=workers) as it, pytest.raises(KeyError, match="a bug"):
            next(it)


def test_a_dead_worker_is_explained() -> None:
    class Deadly(Numbers):
        def __getitem__(self, index: int) -> Sample:
            os.kill(os.getpid(), signal.SIGKILL)
            raise AssertionError

    with stream(Deadly(5), workers=1) as it, pytest.raises(DataError, match=r"a loader process of stream .* died"):
        next(it)


def test_interrupts_do_not_reach_the_workers_and_closing_ends_them() -> None:
    class Pids(Numbers):
        def __getitem__(self, index: int) -> Sample:
            os.kill(os.getpid(), signal.SIGINT)  # Ctrl-C reaches the whole process group
            return Sample(torch.zeros(3, 40, 40, dtype=torch.uint8), str(os.getpid()))

    it = stream(Pids(50), workers=2)
    pids = {int(key) for batch in islice(it, 8) for key in batch.keys}
    assert os.getpid() not in pids
    assert len(pids) == 2
    it.close()
    deadline = time.monotonic() + 20
    while any(_alive(pid) for pid in pids):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert len(next(it).keys) == 4  # and it can go on
    it.close()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_senseless_streams_are_refused() -> None:
    with pytest.raises(DataError, match="has no dataset"):
        stream()
    with pytest.raises(DataError, match="dataset 'd1' is empty"):
        stream(Numbers(3), Numbers(0))
    with pytest.raises(ValueError, match="batch_size"):
        stream(Numbers(3), batch_size=0)
    with pytest.raises(ValueError, match="positive weights"):
        stream(Numbers(3), weights=[0])


# ------------------------------------------------------------------------------------------ build_streams


def build(**options: Any) -> Any:
    return build_streams(Shared(16, 24), **({"stage": "main", "seed": 0, "batch_size": 8} | options))


def test_both_kinds_share_a_batch_and_are_independent(photos: Path) -> None:
    depths = Member("depths", Numbers(16, space=Space.METRIC))
    root = Member("root", Images(photos))
    streams = build(unlabelled=[root], labelled=[depths], labelled_fraction=0.25, workers=0, flip=0.0)
    assert [s.name for s in streams] == ["main/labelled", "main/unlabelled"]
    labelled, unlabelled = (next(s) for s in streams)
    assert (len(labelled), len(unlabelled)) == (2, 6)
    assert labelled.space is Space.METRIC
    assert unlabelled.depth is None
    assert streams.steps_per_epoch == max(16 / 2, 100 / 6)
    alone = build(labelled=[depths])
    assert alone.unlabelled is None
    assert next(alone.labelled).keys[:2] == labelled.keys  # the other kind does not change its order
    only = build(unlabelled=[root, Member("more", Numbers(9), 3.0)])
    assert only.labelled is None
    keys = [key for batch in islice(only.unlabelled, 10) for key in batch.keys]
    assert sum(len(key) == 3 for key in keys) == 20  # root has weight 1 of 4; its keys have three digits
    streams.close()


def test_perturbation_and_space_go_to_the_kind_that_uses_them() -> None:
    members = [Member("depths", Numbers(16, space=Space.METRIC))]
    streams = build(unlabelled=members, labelled=members, space=Space.DISPARITY, perturb=noisy)
    labelled, unlabelled = (next(s) for s in streams)
    assert labelled.space is Space.DISPARITY
    assert labelled.student_images is labelled.images
    assert not torch.equal(unlabelled.student_images, unlabelled.images)


def test_labelled_batches_get_no_patches() -> None:
    members = [Member("depths", Numbers(16, space=Space.METRIC))]
    streams = build_streams(CONTEXTS, stage="main", seed=0, batch_size=4, unlabelled=members, labelled=members)
    assert next(streams.labelled).patches.shape[1] == 0
    assert next(streams.unlabelled).patches.shape[1] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "stage 'main' has no data: give data.root"),
        ({"both": True, "labelled_fraction": 0.01}, "is 0 labelled and 8 unlabelled"),
        ({"both": True, "labelled_fraction": 1.0}, "is 8 labelled and 0 unlabelled"),
        ({"both": True, "batch_size": 1}, "labelled_fraction = 0.5 of a batch of 1"),
    ],
)
def test_stages_without_usable_data_are_refused(options: dict[str, Any], message: str) -> None:
    if options.pop("both", False):
        options |= {"unlabelled": [Member("a", Numbers(4))], "labelled": [Member("b", Numbers(4, space=Space.METRIC))]}
    with pytest.raises(DataError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("workers", "fraction", "expected"),
    [(0, 0.5, (0, 0)), (1, 0.5, (1, 1)), (2, 0.5, (1, 1)), (4, 0.25, (1, 3)), (4, 0.125, (1, 3)), (4, 0.875, (3, 1))],
)
def test_workers_are_divided_between_the_kinds(workers: int, fraction: float, expected: tuple[int, int]) -> None:
    members = [Member("depths", Numbers(16, space=Space.METRIC))]
    streams = build(unlabelled=members, labelled=members, labelled_fraction=fraction, workers=workers)
    assert (streams.labelled.workers, streams.unlabelled.workers) == expected


def test_pinning_keeps_shared_views_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    from dadkit.data.reading import Reading

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
    batch = next(stream(Numbers(8)))
    pinned = Reading(batch).pin_memory()
    assert same(pinned.batch, batch)
    assert pinned.batch.student_images is pinned.batch.images
    assert Reading(None).pin_memory().batch is None
