"""Simulated points: where they are, how many, and that they depend on their generator alone."""

import pytest
import torch

from dadkit.data.patterns import PATTERNS, generator_for, simulate
from dadkit.errors import DataError

SIZE = (60, 80)
ROWS, COLUMNS = torch.meshgrid(torch.linspace(0, 1, SIZE[0]), torch.linspace(0, 1, SIZE[1]), indexing="ij")
DEPTH = 8 - 5 * ROWS + torch.where((COLUMNS > 0.4) & (COLUMNS < 0.6), -1.5, 0.0)
IMAGE = (255 * torch.stack((COLUMNS, ROWS, ((8 * COLUMNS).int() + (8 * ROWS).int()) % 2))).to(torch.uint8)


def points(pattern, count=200, key="a", **errors):
    known = torch.ones(SIZE, dtype=torch.bool)
    known[:4] = False
    return simulate(DEPTH, known, IMAGE, pattern=pattern, points=count, generator=generator_for(0, key), **errors)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_points_are_true_where_they_are_and_the_same_for_the_same_key(pattern):
    hints = points(pattern)
    valid = hints.valid[0, 0]
    assert 10 < int(valid.sum()) <= 200
    assert not bool(valid[:4].any())
    torch.testing.assert_close(hints.depth[0, 0][valid], DEPTH[valid])
    assert torch.equal(points(pattern).depth, hints.depth)
    if pattern not in ("keypoints", "low-resolution"):
        assert not torch.equal(points(pattern, key="b").valid, hints.valid)


def test_patterns_are_what_their_names_say():
    at = {pattern: points(pattern).valid[0, 0].nonzero() for pattern in PATTERNS}
    sides = [
        at["half"][:, 0].max() < 30,
        at["half"][:, 0].min() >= 30,
        at["half"][:, 1].max() < 40,
        at["half"][:, 1].min() >= 40,
    ]
    assert sum(map(bool, sides)) == 1
    seen = points("range").depth[points("range").valid]
    assert seen.max() < DEPTH.max() - 1
    assert len(at["low-resolution"][:, 0].unique()) * len(at["low-resolution"][:, 1].unique()) == len(at["low-resolution"])
    pixels = torch.cartesian_prod(torch.arange(0, 60, 4), torch.arange(0, 80, 4)).float()
    gaps = {
        pattern: [
            torch.cdist(pixels, points(pattern, 50, key).valid[0, 0].nonzero().float()).amin(1).mean() for key in "abcdef"
        ]
        for pattern in ("clusters", "uniform")
    }
    assert sum(gaps["clusters"]) > 1.2 * sum(gaps["uniform"])
    with pytest.raises(DataError, match="low-resolution"):
        points("grid")


def test_errors_of_sensors():
    for name, value, changed in (("noise", 0.02, 1.0), ("outliers", 0.2, 0.2), ("see_through", 0.5, 0.01)):
        hints = points("uniform", 2000, **{name: value})
        ratio = (hints.depth / DEPTH)[hints.valid]
        assert (ratio.log().abs() > 1e-6).double().mean() == pytest.approx(changed, rel=0.5 if name == "see_through" else 0.15)
        if name == "noise":
            assert ratio.log().std() == pytest.approx(0.02, rel=0.1)
        if name == "outliers":
            assert ratio[(ratio - 1).abs() > 1e-6].log().abs().min() > 0.49
        if name == "see_through":
            assert ratio.min() > 0.999
