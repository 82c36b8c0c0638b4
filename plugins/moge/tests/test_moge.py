"""The official function, the solve for shift and focal length, cameras, and what a file's configuration says."""

from __future__ import annotations

import math

import dadkit_moge
import dadkit_moge.model
import pytest
import torch
from dadkit_moge.keys import looks_like
from dadkit_moge.model import MoGe
from dadkit_moge.network import places
from dadkit_moge.sizes import MODELS
from dadkit_moge.solve import focal_and_shift
from torch.nn import functional as F

from dadkit.errors import DadkitError
from dadkit.interfaces import camera_from_fov
from dadkit.spaces import Space

# Made with the official code (wheel dlr_moge 2.0.0) in float64 at 60 tokens, with the weights of conftest.fill: means over 12 x
# 12 pixels of the depth before the solve, times the scale; and the share of valid pixels.
# fmt: off
DEPTH = {
    "v2": [
        14.379108, 6.98272, 4.029598, 2.474818, 1.825481, 1.248382, 0.884942, 10.123809, 4.828159, 2.822807, 1.816288, 1.333809,
        0.886123, 0.684668, 7.740016, 3.85738, 2.030031, 1.418474, 1.047979, 0.737426, 0.574144, 6.055296, 2.965094, 1.980452,
        1.465476, 1.129815, 0.752544, 0.508793, 6.057329, 2.412922, 1.727438, 1.39352, 0.990464, 0.579434, 0.436689,
    ],
    "v1": [
        1.412189, 1.464401, 1.513207, 1.429113, 1.470911, 1.340942, 1.402793, 1.397964, 1.399688, 1.392242, 1.494962, 1.479977,
        1.363178, 1.44263, 1.412224, 1.462778, 1.467632, 1.453629, 1.47281, 1.369763, 1.405168, 1.493293, 1.498132, 1.46608,
        1.46946, 1.439161, 1.419415, 1.417597, 1.440776, 1.496211, 1.48097, 1.433952, 1.470941, 1.413546, 1.411398,
    ],
}
# fmt: on
VALID = {"v2": 0.6555555555555556, "v1": 0.26051587301587303}
CONFIG = {
    "v2": {"encoder": {"backbone": "dinov2_vits14", "intermediate_layers": [5, 11]}, "remap_output": "exp"},
    "v1": {"encoder": "dinov2_vits14", "intermediate_layers": 4, "remap_output": "exp"},
}


def picture(height: int = 60, width: int = 84) -> torch.Tensor:
    rows = torch.linspace(0, 1, height).view(1, 1, height, 1)
    columns = torch.linspace(0, 1, width).view(1, 1, 1, width)
    waves = ((7 * rows + 5 * columns).sin() * 0.5 + 0.5, (11 * rows * columns).cos() * 0.5 + 0.5, (rows - columns).abs())
    return torch.cat(waves, 1)


@pytest.mark.parametrize("version", ["v1", "v2"])
def test_it_is_the_official_function(official, save, monkeypatch, version):
    normals = {"normal_head.output_blocks.4.bias": torch.zeros(3)} if version == "v2" else {}
    path = save({"model_config": CONFIG[version], "model": {**official(version), **normals}})
    teacher = MoGe(f"mini-{version}", weights=path, tokens=60)
    whole = teacher.predict(picture()[0])
    assert whole.space is (Space.METRIC if version == "v2" else Space.SCALE)
    assert whole.depth[whole.valid].min() > 0
    monkeypatch.setattr(dadkit_moge.model, "focal_and_shift", lambda points, *_: (torch.ones(1), torch.zeros(1)))
    answer = teacher.predict(picture()[0])
    error = F.avg_pool2d(answer.depth, 12).flatten() / torch.tensor(DEPTH[version]) - 1
    assert error.abs().max() < 1e-3
    assert math.isclose(float(answer.valid.float().mean()), VALID[version], rel_tol=0.01)


@pytest.mark.parametrize("known", [False, True])
def test_exact_points_give_their_camera_and_shift(known):
    torch.manual_seed(0)
    z = 2 + 3 * torch.rand(2, 1, 96, 128, dtype=torch.float64)
    focal, shift = torch.tensor([1.3, 0.6]).double(), torch.tensor([0.7, -0.2]).double()
    points = torch.cat([places(96, 128, 128 / 96, z)[None] / focal.view(2, 1, 1, 1) * z, z - shift.view(2, 1, 1, 1)], 1)
    mask = torch.ones_like(z, dtype=torch.bool)
    points[0, :, :40], mask[0, :, :40] = 9.0, False
    given = torch.stack([focal[0], torch.tensor(torch.nan).double()]) if known else None
    found, moved = focal_and_shift(points, mask, given)
    assert torch.allclose(found, focal, rtol=1e-6)
    assert torch.allclose(moved, shift, atol=1e-6)
    assert [float(one[0]) for one in focal_and_shift(points[:1], mask[:1] & False)] == [1, 0]


def test_a_given_camera_is_used_and_an_unknown_one_is_found():
    torch.manual_seed(0)
    teacher, image = MoGe("tiny"), picture(56, 84).repeat(2, 1, 1, 1)
    camera = camera_from_fov(60, (56, 84))
    own = teacher(image)
    answer = teacher(image, torch.stack([camera, torch.full((3, 3), torch.nan)]))
    assert torch.allclose(answer.intrinsics[0], camera)
    assert torch.allclose(answer.intrinsics[1], own.intrinsics[1])
    assert torch.allclose(answer.depth[1], own.depth[1])
    assert torch.allclose(MoGe("tiny", fov=60)(image).intrinsics[1], camera)
    assert not answer.depth.requires_grad


def test_what_a_file_says_of_itself_is_checked(official, save):
    state = official("v2")
    with pytest.raises(DadkitError, match=r"says intermediate_layers \[2, 5\], and dadkit knows \[5, 11\]"):
        MoGe("mini-v2", weights=save({"model_config": {"encoder": {"intermediate_layers": [2, 5]}}, "model": state}))
    with pytest.raises(DadkitError, match="says remap_output 'sinh_exp'"):
        MoGe("mini-v2", weights=save({"model_config": {"remap_output": "sinh_exp"}, "model": state}))
    with pytest.raises(DadkitError, match="It looks like MoGe v2-small: use moge/v2-small"):
        MoGe("tiny", weights=save(state))
    with pytest.raises(DadkitError, match="It does not look like MoGe"):
        MoGe("tiny", weights=save({"conv.weight": torch.zeros(1)}))


def test_declared_metadata_and_counts_are_true():
    found = {}
    dadkit_moge.register_teachers(lambda name, target, **metadata: found.update({name: metadata}))
    assert found.keys() == MODELS.keys()
    published = {"v1-large": 314_174_020, "v2-large": 326_209_221}
    for name, metadata in found.items():
        with torch.device("meta"):
            teacher = MoGe(name)
        assert (metadata["space"], metadata["size_multiple"]) == (teacher.spec.space, teacher.spec.size_multiple)
        assert looks_like(teacher.net.state_dict()) == name
        if name in published:  # without the mask token, which is not used
            assert sum(p.numel() for p in teacher.parameters()) == published[name] - MODELS[name].encoder.width
