"""The function itself, against transformers and against a plainly written rule for the position embedding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F


def plain_bicubic_matrix(old: int, new: int, step: float) -> np.ndarray:
    """(new, old): cubic convolution with a = -0.75 at positions (j + 0.5) * step - 0.5, border values repeated."""
    a = -0.75
    matrix = np.zeros((new, old))
    for j in range(new):
        position = (j + 0.5) * step - 0.5
        first = int(np.floor(position))
        for k in range(first - 1, first + 3):
            d = abs(position - k)
            near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
            matrix[j, min(max(k, 0), old - 1)] += near if d <= 1 else far
    return matrix


def plain_positions(embedding: torch.Tensor, rows: int, columns: int, offset: float) -> torch.Tensor:
    old = round((embedding.shape[1] - 1) ** 0.5)
    if rows == columns == old:
        return embedding
    grid = embedding[0, 1:].double().numpy().reshape(old, old, -1)
    vertical = plain_bicubic_matrix(old, rows, old / (rows + offset))
    horizontal = plain_bicubic_matrix(old, columns, old / (columns + offset))
    grid = np.einsum("ia,jb,abc->ijc", vertical, horizontal, grid)
    patches = torch.from_numpy(grid).flatten(0, 1)[None]
    return torch.cat([embedding[:, :1].double(), patches], dim=1).float()


def images(height: int, width: int, count: int = 1) -> torch.Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(height * 10000 + width))


def normalised(model, x: torch.Tensor) -> torch.Tensor:
    mean, std = torch.tensor(model.spec.mean).view(3, 1, 1), torch.tensor(model.spec.std).view(3, 1, 1)
    return (x - mean) / std


def close(ours: torch.Tensor, theirs: torch.Tensor) -> None:
    # A map that is dead or constant would prove nothing.
    assert theirs.std() > 0.05
    assert (ours - theirs).abs().max() <= 2e-5 * theirs.abs().max()


@pytest.mark.parametrize(
    ("size", "height", "width"),
    [
        ("mini", 518, 518),
        ("mini", 560, 560),
        ("mini", 392, 518),
        ("tiny", 126, 126),
        ("tiny", 98, 168),
        ("mini-giant", 126, 154),
        ("small", 518, 518),
        ("small", 266, 392),
    ],
)
def test_equals_transformers_in_its_mode(build, transformers_model, size, height, width):
    model = build(size, pos_embed="hf")
    theirs = transformers_model(size, model)
    x = images(height, width)
    with torch.inference_mode():
        close(model(x).depth[:, 0], theirs(normalised(model, x)).predicted_depth)


@pytest.mark.parametrize(("height", "width"), [(518, 518), (392, 518)])
def test_metric_answers_are_those_of_transformers_in_metres(build, transformers_model, height, width):
    model = build("mini", pos_embed="hf", max_depth=20.0)
    theirs = transformers_model("mini", model, max_depth=20)
    x = images(height, width)
    with torch.inference_mode():
        prediction = model(x)
        expected = theirs(normalised(model, x)).predicted_depth
    assert prediction.space == "metric"
    assert model.spec.range == (0.0, 20.0)
    assert 0 < prediction.depth.min() < prediction.depth.max() < 20
    close(prediction.depth[:, 0], expected)


def test_version_decides_the_tapped_blocks(build, transformers_model):
    x = images(126, 126)
    with torch.inference_mode():
        v1 = build("tiny", version="v1", pos_embed="hf")
        close(v1(x).depth[:, 0], transformers_model("tiny", v1, version="v1")(normalised(v1, x)).predicted_depth)
        assert (v1(x).depth - build("tiny", version="v2")(x).depth).abs().max() > 0.05


@pytest.mark.parametrize("size", ["mini", "small"])
@pytest.mark.parametrize(("height", "width"), [(518, 518), (518, 686), (560, 560), (392, 518)])
@pytest.mark.parametrize(("rule", "offset"), [("official", 0.1), ("hf", 0.0)])
def test_position_embedding_by_the_plain_rule(build, size, height, width, rule, offset):
    encoder = build(size, pos_embed=rule).pretrained
    with torch.inference_mode():
        ours = encoder.positions(height // 14, width // 14)
        plain = plain_positions(encoder.pos_embed, height // 14, width // 14, offset)
    assert ours.shape == (1, 1 + height * width // 196, encoder.embed_dim)
    assert (ours - plain).abs().max() < 1e-4 * plain.abs().max()  # float32 sampling positions against float64 ones


@pytest.mark.parametrize(("size", "height", "width"), [("mini", 518, 686), ("mini", 560, 560), ("small", 392, 518)])
def test_official_function(build, transformers_model, monkeypatch, size, height, width):
    """transformers' network, with its position embedding replaced by the plain official rule, is the official function."""
    model = build(size)
    theirs = transformers_model(size, model)
    embeddings = theirs.backbone.embeddings
    assert hasattr(embeddings, "interpolate_pos_encoding")
    plain = plain_positions(model.pretrained.pos_embed.detach(), height // 14, width // 14, 0.1)
    monkeypatch.setattr(embeddings, "interpolate_pos_encoding", lambda *args, **kwargs: plain)
    x = images(height, width)
    with torch.inference_mode():
        close(model(x).depth[:, 0], theirs(normalised(model, x)).predicted_depth)


def test_the_two_rules_differ_off_the_own_grid_only(build):
    official, hf = build("mini").pretrained, build("mini", pos_embed="hf").pretrained
    assert torch.equal(official.positions(37, 37), official.pos_embed)
    assert torch.equal(hf.positions(37, 37), hf.pos_embed)
    assert (official.positions(37, 49) - hf.positions(37, 49)).abs().max() > 1e-3


def test_half_precision_interpolates_in_float32(build):
    encoder = build("mini").pretrained.bfloat16()
    exact = build("mini").pretrained
    exact.load_state_dict(encoder.state_dict())
    positions = encoder.positions(40, 40)
    assert positions.dtype == torch.bfloat16
    assert torch.equal(positions, exact.positions(40, 40).bfloat16())


def test_tokens_are_the_last_tapped_block_normalised(build):
    model = build("mini")
    # At its own grid, since timm brings the embedding to other grids by a rule of its own.
    x = images(518, 518)
    with torch.inference_mode():
        tokens = model(x).features["tokens"]
        taps = model.pretrained.forward_intermediates(
            normalised(model, x), indices=[3], norm=True, output_fmt="NLC", intermediates_only=True
        )
        assert torch.allclose(tokens, taps[0], atol=1e-4)
        assert model(images(140, 182)).features["tokens"].shape == (1, 10 * 13, model.spec.features["tokens"])


def test_answer_returns_to_other_sizes_as_the_official_code_does(build):
    model = build("mini")
    x = images(143, 179)
    with torch.inference_mode():
        legal = F.interpolate(x, (140, 182), mode="bicubic", align_corners=False)
        expected = F.interpolate(model(legal).depth, (143, 179), mode="bilinear", align_corners=True)
        assert torch.equal(model(x).depth, expected)
        assert build("mini", version="v1").spec.align_corners is False


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [
        (640, 480, (686, 518)),
        (1242, 375, (1722, 518)),
        (1216, 352, (1792, 518)),
        (6048, 4032, (770, 518)),
        (1024, 436, (1218, 518)),
        (320, 240, (686, 518)),
        (1920, 1080, (924, 518)),
    ],
)
def test_native_policy_is_the_official_lower_bound(build, width, height, expected):
    assert build("mini").spec.native.target(height, width)[::-1] == expected
