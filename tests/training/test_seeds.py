"""Draws follow from the seed alone and have the right frequencies."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch

from dadkit.training.seeds import draw_index, seed_everything, uniform


def test_teacher_draws_are_seven_to_three_and_repeatable():
    drawn = [draw_index([0.7, 0.3], 1, "main", "teacher", step) for step in range(4000)]
    assert drawn == [draw_index([0.7, 0.3], 1, "main", "teacher", step) for step in range(4000)]
    assert abs(drawn.count(1) / 4000 - 0.3) < 4 * (0.3 * 0.7 / 4000) ** 0.5  # four standard deviations
    assert drawn == [draw_index([7, 3], 1, "main", "teacher", step) for step in range(4000)]  # relative weights


def test_draws_of_neighbouring_steps_are_independent():
    drawn = np.array([draw_index([0.5, 0.5], 3, "main", "teacher", step) for step in range(4000)])
    assert abs(np.corrcoef(drawn[:-1], drawn[1:])[0, 1]) < 0.07


@pytest.mark.parametrize(
    "other", [(2, "main", "teacher", 5), (1, "other", "teacher", 5), (1, "main", "step", 5), (1, "main", "teacher", 6)]
)
def test_every_part_matters(other):
    assert uniform(1, "main", "teacher", 5) != uniform(*other)


def test_a_single_teacher_is_always_drawn():
    assert {draw_index([0.2], 0, step) for step in range(50)} == {0}


def test_all_generators_are_seeded():
    def draw():
        seed_everything(5, "main", "step", 3)
        return torch.rand(2).tolist(), random.random(), np.random.rand()

    first = draw()
    torch.rand(7)
    random.random()
    np.random.rand()
    assert draw() == first
