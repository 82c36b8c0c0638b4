"""What the network sees in ``predict``: the official preprocessing, written here a second time without torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

A = -0.75  # OpenCV's cubic; Catmull-Rom would be -0.5


def cubic_matrix(old: int, new: int) -> np.ndarray:
    """(new, old): OpenCV's INTER_CUBIC along one axis; the borders are repeated."""
    matrix = np.zeros((new, old))
    for j in range(new):
        position = (j + 0.5) * old / new - 0.5
        first = int(np.floor(position))
        x = position - first
        weights = [
            ((A * (x + 1) - 5 * A) * (x + 1) + 8 * A) * (x + 1) - 4 * A,
            ((A + 2) * x - (A + 3)) * x * x + 1,
            ((A + 2) * (1 - x) - (A + 3)) * (1 - x) * (1 - x) + 1,
        ]
        weights.append(1 - sum(weights))
        for offset, weight in enumerate(weights, start=-1):
            matrix[j, min(max(first + offset, 0), old - 1)] += weight
    return matrix


def official(picture: np.ndarray, height: int, width: int) -> np.ndarray:
    """(H, W, 3) uint8 RGB -> (3, height, width): divided by 255, resized, normalised."""
    scaled = picture / 255.0
    rows, columns = cubic_matrix(scaled.shape[0], height), cubic_matrix(scaled.shape[1], width)
    resized = rows @ scaled.transpose(2, 0, 1) @ columns.T
    return (resized - np.array([0.485, 0.456, 0.406])[:, None, None]) / np.array([0.229, 0.224, 0.225])[:, None, None]


@pytest.mark.parametrize(
    ("height", "width", "legal"),
    [
        (480, 640, (518, 686)),
        (240, 320, (518, 686)),
        (375, 1242, (518, 1722)),
        (720, 560, (672, 518)),
        (1036, 1036, (518, 518)),
    ],
)
def test_predict_sees_what_the_official_code_sees(build, monkeypatch, height, width, legal):
    """Enlarged and made smaller, on noise, which shows every difference."""
    model = build("mini")
    seen = []
    monkeypatch.setattr(model, "estimate", lambda x: (seen.append(x), (x[:, :1], {}))[1])
    picture = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    answer = model.predict(picture)
    assert answer.depth.shape == (1, 1, height, width)
    assert tuple(seen[0].shape) == (1, 3, *legal)
    expected = official(picture, *legal)
    assert np.abs(seen[0][0].numpy() - expected).max() < 2e-3  # of values up to 3.3: float32 sampling positions
    assert np.abs(seen[0][0].numpy() - expected).mean() < 1e-4


def test_the_resize_in_double_precision_is_exact():
    picture = np.random.default_rng(1).random((37, 53))
    matrices = cubic_matrix(37, 61), cubic_matrix(53, 40)
    ours = F.interpolate(torch.from_numpy(picture)[None, None], (61, 40), mode="bicubic", align_corners=False)
    assert np.abs(ours[0, 0].numpy() - matrices[0] @ picture @ matrices[1].T).max() < 1e-12
