"""Both kinds of data of a stage, as streams that share a batch."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
import torch

from dadkit.contexts import LocalGlobal, Shared
from dadkit.data import Images, Member, build_streams
from dadkit.errors import DataError
from dadkit.spaces import Space

Make = Callable[..., Any]


@pytest.fixture
def build() -> Make:
    """``build(unlabelled=…, labelled=…, **options)``: the streams of a stage."""

    def make(**options: Any) -> Any:
        return build_streams(Shared(16, 24), **({"stage": "main", "seed": 0, "batch_size": 8} | options))

    return make


def test_both_kinds_share_a_batch_and_are_independent(build: Make, numbers: Any, photos: Path) -> None:
    depths = Member("depths", numbers(16, space=Space.METRIC))
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
    only = build(unlabelled=[root, Member("more", numbers(9), 3.0)])
    assert only.labelled is None
    keys = [key for batch in islice(only.unlabelled, 10) for key in batch.keys]
    assert sum(len(key) == 3 for key in keys) == 20  # root has weight 1 of 4; its keys have three digits
    streams.close()


def test_perturbation_and_space_go_to_the_kind_that_uses_them(build: Make, numbers: Any, noisy: Any) -> None:
    members = [Member("depths", numbers(16, space=Space.METRIC))]
    streams = build(unlabelled=members, labelled=members, space=Space.DISPARITY, perturb=noisy)
    labelled, unlabelled = (next(s) for s in streams)
    assert labelled.space is Space.DISPARITY
    assert labelled.student_images is labelled.images
    assert not torch.equal(unlabelled.student_images, unlabelled.images)


def test_labelled_batches_get_no_patches(contexts: LocalGlobal, numbers: Any) -> None:
    members = [Member("depths", numbers(16, space=Space.METRIC))]
    streams = build_streams(contexts, stage="main", seed=0, batch_size=4, unlabelled=members, labelled=members)
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
def test_stages_without_usable_data_are_refused(build: Make, numbers: Any, options: dict[str, Any], message: str) -> None:
    if options.pop("both", False):
        options |= {"unlabelled": [Member("a", numbers(4))], "labelled": [Member("b", numbers(4, space=Space.METRIC))]}
    with pytest.raises(DataError, match=message):
        build(**options)


@pytest.mark.parametrize(
    ("workers", "fraction", "expected"),
    [(0, 0.5, (0, 0)), (1, 0.5, (1, 1)), (2, 0.5, (1, 1)), (4, 0.25, (1, 3)), (4, 0.125, (1, 3)), (4, 0.875, (3, 1))],
)
def test_workers_are_divided_between_the_kinds(
    build: Make, numbers: Any, workers: int, fraction: float, expected: tuple[int, int]
) -> None:
    members = [Member("depths", numbers(16, space=Space.METRIC))]
    streams = build(unlabelled=members, labelled=members, labelled_fraction=fraction, workers=workers)
    assert (streams.labelled.workers, streams.unlabelled.workers) == expected
