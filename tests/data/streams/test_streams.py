"""Streams: bit-identical whatever the workers, resumable from a number, each dataset with its share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from dadkit.contexts import Whole
from dadkit.data import Batch, Images, Sample, Stream
from dadkit.errors import DataError
from dadkit.spaces import Space, SpaceError

Make = Callable[..., Any]


def test_batches_do_not_depend_on_the_number_of_workers(
    numbers: Any, noisy: Any, stream: Make, same: Any, photos: Path
) -> None:
    def first(workers: int) -> tuple[list[Batch], Stream]:
        with stream(Images(photos), numbers(30), weights=[2, 1], workers=workers, perturb=noisy, seed=3) as it:
            return list(islice(it, 12)), it

    expected, inline = first(0)
    for workers in (1, 2):
        found, it = first(workers)
        assert all(map(same, found, expected))
        assert it.state() == inline.state()
    assert inline.failed_reads > 0
    assert not torch.equal(expected[0].images, expected[0].student_images)


@pytest.mark.parametrize("workers", [0, 2])
def test_going_on_from_a_position_repeats_an_uninterrupted_stream(stream: Make, same: Any, photos: Path, workers: int) -> None:
    whole = list(islice(stream(Images(photos)), 10))
    with stream(Images(photos), workers=workers) as resumed:
        resumed.seek(6 * 4)
        assert all(map(same, islice(resumed, 4), whole[6:]))
        assert resumed.position == 40
        resumed.seek(0)
        assert same(next(resumed), whole[0])


def test_positions_count_samples_whatever_the_batch_size(numbers: Any, stream: Make) -> None:
    small, large = stream(numbers(50), batch_size=2), stream(numbers(50), batch_size=6)
    by_two = [key for batch in islice(small, 12) for key in batch.keys]
    by_six = [key for batch in islice(large, 4) for key in batch.keys]
    assert by_two == by_six
    large.seek(7)
    assert list(next(large).keys) == by_two[7:13]


def test_seed_and_name_decide_and_the_global_generator_does_not(numbers: Any, stream: Make, same: Any) -> None:
    torch.manual_seed(0)
    first = next(stream(numbers(50)))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    with stream(numbers(50), workers=1) as it:
        assert same(next(it), first)
    assert torch.equal(torch.get_rng_state(), before)
    assert not same(next(stream(numbers(50), seed=1)), first)
    assert not same(next(stream(numbers(50), name="main/labelled")), first)


def test_spawned_workers_give_the_same(stream: Make, same: Any, photos: Path) -> None:
    with stream(Images(photos), workers=1, start_method="spawn") as spawned:
        assert all(map(same, islice(spawned, 2), islice(stream(Images(photos)), 2)))


def test_an_epoch_meets_every_sample_once(numbers: Any, stream: Make) -> None:
    it = stream(numbers(40), batch_size=8)
    assert it.samples_per_epoch == 40
    epochs = [[key for batch in islice(it, 5) for key in batch.keys] for _ in range(3)]
    assert all(sorted(map(int, epoch)) == list(range(40)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 3


def test_mixtures_keep_their_shares_and_each_dataset_its_epochs(numbers: Any, stream: Make) -> None:
    it = stream(numbers(30), numbers(10, first=100), weights=[3, 1], batch_size=8)
    keys = [int(key) for batch in islice(it, 20) for key in batch.keys]  # 160 = 120 + 40
    counts = Counter(keys)
    assert all(counts[i] == 4 for i in range(30))
    assert all(counts[i] == 4 for i in range(100, 110))
    assert it.samples_per_epoch == 40


def test_flips_come_with_their_probability(stream: Make) -> None:
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


def test_labels_are_dropped_required_or_converted(numbers: Any, stream: Make) -> None:
    labelled = numbers(20, space=Space.METRIC)
    unlabelled = next(stream(labelled))
    assert unlabelled.depth is unlabelled.valid is unlabelled.space is None
    metric = next(stream(labelled, labelled=True))
    assert metric.space is Space.METRIC
    assert metric.depth[:, 0, 0, 0].tolist() == [int(key) + 1 for key in metric.keys]
    assert metric.valid.all()
    mixed = next(stream(labelled, numbers(20, space=Space.DISPARITY), labelled=True, space=Space.DISPARITY))
    assert mixed.space is Space.DISPARITY
    with pytest.raises(DataError, match=r"dataset 'd0' is listed as labelled data, but '.*' has no depth"):
        next(stream(numbers(20), labelled=True))
    with pytest.raises(SpaceError):
        next(stream(numbers(20, space=Space.DEPTH), labelled=True, space=Space.DISPARITY))
    with pytest.raises(ValueError, match="one space"):
        next(stream(labelled, numbers(20, space=Space.DEPTH), labelled=True))


def test_patches_are_left_out_where_nobody_looks(numbers: Any, stream: Make) -> None:
    with_patches, without = next(stream(numbers(20))), next(stream(numbers(20), patches=False))
    assert with_patches.patches.shape[1] == 4
    assert without.patches.shape == (4, 0, 3, 24, 24)
    assert without.boxes.shape == (4, 0, 4)
    assert torch.equal(with_patches.images, without.images)


def test_senseless_streams_are_refused(numbers: Any, stream: Make) -> None:
    with pytest.raises(DataError, match="has no dataset"):
        stream()
    with pytest.raises(DataError, match="dataset 'd1' is empty"):
        stream(numbers(3), numbers(0))
    with pytest.raises(ValueError, match="batch_size"):
        stream(numbers(3), batch_size=0)
    with pytest.raises(ValueError, match="positive weights"):
        stream(numbers(3), weights=[0])


def test_pinning_keeps_shared_views_shared(numbers: Any, stream: Make, same: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dadkit.data.stream import Reading

    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda self: self.clone())
    batch = next(stream(numbers(8)))
    pinned = Reading(batch).pin_memory()
    assert same(pinned.batch, batch)
    assert pinned.batch.student_images is pinned.batch.images
    assert Reading(None).pin_memory().batch is None
