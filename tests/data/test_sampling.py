"""The order of the data: permutations, epochs and mixtures, all without a state."""

from __future__ import annotations

import sys
from collections import Counter
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dadkit.data.sampling import Mixture, Permutation, derive, nth_in_order


@given(st.integers(1, 700), st.integers(0, 2**62))
def test_a_permutation_meets_every_element_once(size: int, seed: int) -> None:
    order = Permutation(size, seed)
    assert sorted(order(i) for i in range(size)) == list(range(size))


def test_all_orders_of_a_small_dataset_are_about_equally_likely() -> None:
    counts = Counter(tuple(map(Permutation(4, seed), range(4))) for seed in range(6000))
    assert set(counts) == set(permutations(range(4)))
    assert all(180 < count < 330 for count in counts.values())  # 250 each, sd 16


def test_places_are_independent_of_elements() -> None:
    size, seeds = 100, 3000
    first = Counter(Permutation(size, seed)(0) for seed in range(seeds))
    assert len(first) == size
    assert sum((count - 30) ** 2 / 30 for count in first.values()) < 160  # chi-square, 99 degrees: mean 99, sd 14
    order = Permutation(10_000, 1)
    steps = Counter((order(i + 1) - order(i)) % 10_000 for i in range(9_999))
    assert max(steps.values()) < 10  # neighbours do not stay neighbours


def test_a_permutation_takes_no_memory_and_survives_billions() -> None:
    order = Permutation(10**10, 5)
    assert len({order(i) for i in range(0, 10**10, 10**7)}) == 1000
    assert sum(map(sys.getsizeof, vars(order).values())) < 1000


@pytest.mark.parametrize("size", [0, -1])
def test_an_empty_permutation_is_refused(size: int) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Permutation(size, 0)
    with pytest.raises(IndexError):
        Permutation(5, 0)(5)


def test_every_epoch_holds_every_sample_once_in_another_order() -> None:
    epochs = [[nth_in_order(n, 50, 7) for n in range(e * 50, e * 50 + 50)] for e in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 4
    assert [nth_in_order(n, 50, 8) for n in range(50)] != epochs[0]


def test_the_replacement_is_the_next_of_the_same_epoch() -> None:
    epoch = [nth_in_order(n, 10, 3) for n in range(10)]
    assert [nth_in_order(4, 10, 3, skip=s) for s in range(10)] == epoch[4:] + epoch[:4]


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=6), st.integers(1, 3000))
def test_a_mixture_keeps_its_shares_at_every_position(weights: list[float], count: int) -> None:
    mixture = Mixture(weights)
    seen = [0] * len(weights)
    for position in range(count):
        source, number = mixture(position)
        assert number == seen[source]  # how often it stood before: so its own order has no gap
        seen[source] += 1
        for i, weight in enumerate(weights):
            assert abs(seen[i] - (position + 1) * weight / sum(weights)) < len(weights)


def test_a_mixture_is_exact_far_out() -> None:
    mixture = Mixture([1, 2, 1])
    far = 10**15
    numbers = [mixture(p) for p in range(far, far + 400)]
    assert Counter(source for source, _ in numbers) == {0: 100, 1: 200, 2: 100}


@pytest.mark.parametrize("weights", [[], [1, 0], [1, -1], [float("inf")], [float("nan")]])
def test_senseless_weights_are_refused(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="positive weights"):
        Mixture(weights)


def test_derived_seeds_depend_on_every_part() -> None:
    seeds = {derive(s, *parts) for s in (0, 1) for parts in [(), ("a",), ("a", 1), ("a", 2), ("a1",), ("1", "a"), (1, "a")]}
    assert len(seeds) == 12  # ("1", "a") and (1, "a") are the same text
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert derive(0, "main", "item", 12) == 3469588090290631897
