"""The official function, before and after fusion; files; options."""

from __future__ import annotations

import dadkit_zipdepth
import pytest
import torch
from dadkit_zipdepth.model import ZipDepth
from dadkit_zipdepth.network import SIZES
from torch.nn import functional as F

import dadkit
from dadkit.errors import DadkitError
from dadkit.spaces import Space

# Made with the official code (fabiotosi92/ZipDepth, a302e543) in float64, with the weights of conftest.fill: means of 16 x 16
# pixels, and single pixels.
# fmt: off
GOLDEN = {
    "convex": [
        1987.992456, 2215.694218, 2250.470146, 2201.045293, 2187.711088, 2055.533588, 2093.806529, 2338.519119, 2445.306036,
        2399.710632, 2303.461162, 2112.782272, 2198.992796, 2418.98096, 2558.713131, 2478.801524, 2406.375445, 2159.450975,
        2254.777188, 2401.117996, 2486.847553, 2412.647197, 2330.556156, 2022.447307,
    ],
    "blend": [
        2016.090223, 2232.556441, 2264.83729, 2214.450371, 2189.708048, 2040.713176, 2114.637696, 2347.852172, 2457.328255,
        2405.373122, 2306.155042, 2087.256468, 2227.740759, 2426.221536, 2562.803649, 2475.366519, 2405.477512, 2131.43085,
        2246.772643, 2362.398105, 2443.211942, 2365.759692, 2286.657474, 1961.666352,
    ],
}
CORNERS = {
    "convex": [1461.5915901331753, 2536.096692584693, 1999.08448639695, 2153.1367498856475],
    "blend": [1406.1840961713579, 2535.5631830050997, 1018.702988497397, 2151.3931074411216],
}
# fmt: on


def picture(height: int = 64, width: int = 96) -> torch.Tensor:
    rows = torch.linspace(0, 1, height).view(1, 1, height, 1)
    columns = torch.linspace(0, 1, width).view(1, 1, 1, width)
    waves = ((7 * rows + 5 * columns).sin() * 0.5 + 0.5, (11 * rows * columns).cos() * 0.5 + 0.5, (rows - columns).abs())
    return torch.cat(waves, 1)


@pytest.mark.parametrize("upsampling", ["convex", "blend"])
def test_it_is_the_official_function_before_and_after_fusion(official, save, upsampling):
    path = save({"model_state_dict": {f"_orig_mod.{name}": tensor for name, tensor in official(upsampling).items()}})
    model = dadkit.load_teacher("zipdepth/base", weights=path, upsampling=upsampling).model
    fused = model.fuse()
    assert [sum(p.numel() for p in m.parameters()) // 10**4 for m in (model, fused)] == [678, 614]  # published: 6.1 M
    for one in (model, fused):
        with torch.inference_mode():
            depth = one(picture()).depth
        error = F.avg_pool2d(depth, 16).flatten() / torch.tensor(GOLDEN[upsampling]) - 1
        assert error.abs().max() < 1e-4
        corners = depth[0, 0, [0, 31, 63, 20], [0, 47, 95, 90]]
        assert (corners / torch.tensor(CORNERS[upsampling]) - 1).abs().max() < 1e-4


def test_a_trained_student_and_its_encoder_load_again(save):
    torch.manual_seed(0)
    model = ZipDepth("small")
    path = save(model.state_dict())
    again, encoder = ZipDepth("small", weights=path), ZipDepth("small", weights=path, init="encoder")
    assert all(torch.equal(again.state_dict()[name], tensor) for name, tensor in model.state_dict().items())
    assert torch.equal(encoder.encoder.halve[0].weight, model.encoder.halve[0].weight)
    assert not torch.equal(encoder.decoder.head.weight, model.decoder.head.weight)
    assert (again.head_is_trained, encoder.head_is_trained) == (True, False)
    assert (again.spec.license, model.spec.license) == ("MIT", "Apache-2.0")
    with pytest.raises(DadkitError, match="It looks like ZipDepth small: use zipdepth/small"):
        ZipDepth("base", weights=path)
    with pytest.raises(DadkitError, match="It was made with upsampling: convex"):
        ZipDepth("small", weights=path, upsampling="blend")
    with pytest.raises(DadkitError, match="It does not look like ZipDepth"):
        ZipDepth("small", weights=save({"conv.weight": torch.zeros(1)}))


@pytest.mark.parametrize("space", ["disparity", "depth", "metric"])
def test_spaces_of_a_student(space):
    torch.manual_seed(0)
    model = dadkit.load_student("zipdepth/small", space=space)
    prediction = model(picture(50, 70).repeat(2, 1, 1, 1))
    assert prediction.space is Space(space)
    assert prediction.depth.shape == (2, 1, 50, 70)
    assert space == "depth" or prediction.depth.min() >= 0
    prediction.depth.mean().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


def test_declared_metadata_is_true():
    found = {}
    dadkit_zipdepth.register_students(lambda name, target, **metadata: found.update({name: metadata}))
    assert found.keys() == SIZES.keys()
    spec = ZipDepth("small").spec
    assert all((m["space"], m["size_multiple"]) == (spec.space, spec.size_multiple) for m in found.values())
    # The official predictor: the shorter side becomes 384, both are rounded to a multiple of 32.
    assert [spec.native.target(*size) for size in ((480, 640), (1080, 1920), (375, 1242))] == [
        (384, 512),
        (384, 672),
        (384, 1280),
    ]
