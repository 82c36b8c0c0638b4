"""The official function, files, what tells mono and metric apart, cameras and sky."""

from __future__ import annotations

import json
import math

import dadkit_da3
import pytest
import torch
from dadkit_da3.keys import looks_like, to_model
from dadkit_da3.model import DepthAnything3
from dadkit_da3.sizes import MODELS
from torch.nn import functional as F

import dadkit
from dadkit.errors import DadkitError
from dadkit.interfaces import FrozenTeacher, camera_from_fov
from dadkit.spaces import Space

# Made with the official code (wheel depth_anything_3 0.1.1) in float64, with the weights of conftest.fill: means of 14 x 14
# pixels.
# fmt: off
DEPTH = {
    "small": [
        0.9641943, 0.9246844, 0.7684423, 0.8621107, 1.4630142, 1.7165124, 1.9630456, 0.9259777, 0.7377557, 0.7865721, 1.1013274,
        1.9086453, 2.5182543, 2.3540474, 1.0640985, 0.7918067, 0.8605597, 1.4820646, 2.4574767, 2.3310165, 1.1278738, 1.0585549,
        0.8256119, 1.2106279, 1.5365371, 1.3064166, 0.8518085, 0.6143207, 1.0247677, 1.1517726, 2.0603776, 1.7730979, 1.1209834,
        0.9002124, 1.0579822,
    ],
    "mono-small": [
        0.6451937, 0.4190256, 0.4825134, 0.6505135, 0.9663057, 1.1053163, 0.9479685, 0.7045335, 0.6738099, 0.796254, 1.162463,
        0.9334294, 0.7301098, 0.9022063, 1.3039125, 1.6925168, 1.2207487, 0.6336053, 0.3272041, 0.4757936, 0.8399755, 1.3945612,
        1.3784524, 0.7080907, 0.3554013, 0.4307364, 0.7139746, 1.0956359, 0.9902788, 1.1995061, 0.7155284, 0.7100863, 1.0326363,
        1.1552358, 1.1146929,
    ],
    "large-thin": [
        0.6566321, 1.0506216, 1.3654729, 1.3671016, 0.9865117, 0.6481633, 0.7059651, 0.8732854, 1.1713699, 1.2015679, 1.0586501,
        0.8779026, 0.825853, 0.9875495, 1.3664392, 1.08013, 0.7472922, 0.7438225, 0.7976136, 0.931607, 1.1624015, 1.6995332,
        1.1013985, 0.4277764, 0.3589557, 0.537033, 0.7914626, 0.9690226, 1.5041069, 0.7347062, 0.3562172, 0.4147522, 0.6804897,
        0.8173287, 0.9777141,
    ],
    "giant-thin": [
        0.9117506, 2.0131284, 2.2253695, 1.7345133, 1.2278896, 1.0521748, 0.9982946, 0.6335767, 1.6923594, 1.9565868, 1.9667191,
        1.489642, 1.5142199, 1.2494657, 0.6022286, 1.5198131, 1.4582191, 1.3557276, 1.1538055, 1.6206406, 1.5412077, 0.6896519,
        1.2643531, 1.1603676, 0.6867926, 0.5401675, 0.6249984, 1.2531464, 0.9480583, 1.0506879, 0.7530605, 0.4252201, 0.3627474,
        0.5081543, 0.8380475,
    ],
}
# fmt: on
SKY_SHARE = 0.06705539673566818
# The last is of a field of view of 0, which the official code holds at 1e-6.
FOCAL_Y = {"small": 110.1204605102539, "large-thin": 259.5728, "giant-thin": 35000000.0}


def picture(height: int = 70, width: int = 98) -> torch.Tensor:
    rows = torch.linspace(0, 1, height).view(1, 1, height, 1)
    columns = torch.linspace(0, 1, width).view(1, 1, 1, width)
    waves = ((7 * rows + 5 * columns).sin() * 0.5 + 0.5, (11 * rows * columns).cos() * 0.5 + 0.5, (rows - columns).abs())
    return torch.cat(waves, 1)


@pytest.mark.parametrize(("name", "prefix"), [(n, "model.") for n in FOCAL_Y] + [("mono-small", "")])
def test_it_is_the_official_function(official, save, name, prefix):
    path = save({prefix + key: tensor for key, tensor in official(name).items()})
    teacher = FrozenTeacher(DepthAnything3(name, weights=path))
    answer = teacher(picture())
    error = F.avg_pool2d(answer.depth, 14).flatten() / torch.tensor(DEPTH[name]) - 1
    assert error.abs().max() < 1e-4
    if name in FOCAL_Y:
        assert answer.space is Space.SCALE
        assert answer.sky is None
        assert math.isclose(float(answer.intrinsics[0, 1, 1]), FOCAL_Y[name], rel_tol=1e-4)
        assert answer.intrinsics[0, :2, 2].tolist() == [49, 35]
    else:
        assert answer.space is Space.DEPTH
        assert math.isclose(float(answer.sky.float().mean()), SKY_SHARE, rel_tol=0.01)
        assert torch.equal(answer.to_space("depth").valid, ~answer.sky)


@pytest.mark.parametrize(("name", "keys", "parameters"), [
    ("small", 443, 34_299_655), ("large", 643, 410_941_959), ("mono-large", 406, 334_171_394),
])  # fmt: skip
def test_names_and_shapes_of_the_released_files(shapes, name, keys, parameters):
    with torch.device("meta"):
        own = DepthAnything3(name).state_dict()
        file = {key: torch.empty(shape) for key, shape in shapes(name)}
    assert (len(file), sum(tensor.numel() for tensor in file.values())) == (keys, parameters)  # as published
    state = to_model(file)
    assert {key: tensor.shape for key, tensor in state.items()} == {key: tensor.shape for key, tensor in own.items()}
    assert looks_like(own) == name


def test_only_what_is_said_beside_the_tensors_tells_mono_and_metric(monkeypatch, official, save, tmp_path):
    small = DepthAnything3.__init__.__globals__["MODELS"]["mono-small"]
    monkeypatch.setitem(DepthAnything3.__init__.__globals__["MODELS"], "mono-large", small)
    monkeypatch.setitem(DepthAnything3.__init__.__globals__["MODELS"], "metric-large", small)
    state = official("mono-small")
    with pytest.raises(DadkitError, match=r"nothing says whether .* is mono-large or metric-large"):
        DepthAnything3("mono-large", weights=save(state))
    with pytest.raises(DadkitError, match="is said to be metric-large: use da3/metric-large"):
        DepthAnything3("mono-large", weights=save(state, "DA3METRIC-LARGE.pth"))
    DepthAnything3("mono-large", weights=save(state, "da3_mono_large.pth"))
    DepthAnything3("mono-large", weights=save(state), init="encoder")
    torch.save(state, tmp_path / "pytorch_model.bin")
    (tmp_path / "config.json").write_text(json.dumps({"model_name": "da3metric-large"}))
    model = DepthAnything3("metric-large", weights=tmp_path / "pytorch_model.bin")
    assert model.spec.license == "Apache-2.0"
    with pytest.raises(DadkitError, match="It looks like Depth Anything 3 mono-small"):
        DepthAnything3("small", weights=save(state))
    with pytest.raises(DadkitError, match="It is no file of Depth Anything 3"):
        DepthAnything3("small", weights=save({"conv.weight": torch.zeros(1)}))


@pytest.fixture
def metric(monkeypatch):
    """``metric(**options)``: metric-large on a small encoder."""
    models = DepthAnything3.__init__.__globals__["MODELS"]
    monkeypatch.setitem(models, "metric-large", models["tiny"])

    def make(**options):
        torch.manual_seed(0)
        return FrozenTeacher(DepthAnything3("metric-large", **options))

    return make


def test_metres_need_a_camera_and_follow_it(metric):
    teacher, image = metric(), picture()
    plain = metric(space="scale")(image)
    assert plain.space is Space.SCALE
    with pytest.raises(ValueError, match=r"metres only with a camera; give cameras=\(B, 3, 3\), NaN where"):
        teacher(image)
    camera = camera_from_fov(60, (70, 98))
    answer = teacher(image, camera[None])
    assert answer.space is Space.METRIC
    assert torch.allclose(answer.depth, plain.depth * camera[0, 0] / 300)
    assert torch.allclose(metric(fov=60)(image).depth, answer.depth)
    # The published formula at 504 px and 60 degrees: raw numbers called metres are wrong by 1.45.
    assert math.isclose(camera_from_fov(60, (378, 504))[0, 0] / 300, 1.45, abs_tol=0.01)
    unknown = torch.full((1, 3, 3), torch.nan)
    both = teacher(image.repeat(2, 1, 1, 1), torch.cat([camera[None], unknown]))
    assert both.valid[0].all()
    assert not both.valid[1].any()
    assert both.depth.isfinite().all()
    # A picture twice as large, seen at the same size: the same metres.
    large = F.interpolate(image, scale_factor=2, mode="nearest")
    one = teacher.predict(image[0], cameras=camera)
    other = teacher.predict(large[0], cameras=camera * torch.tensor([2.0, 2.0, 1.0])[:, None])
    assert math.isclose(one.depth.mean(), other.depth.mean(), rel_tol=0.02)


def test_sizes_of_the_official_preprocessing(monkeypatch):
    seen = []
    torch.manual_seed(0)
    model = DepthAnything3("tiny", native_size=504)
    monkeypatch.setattr(model, "_run", lambda legal, size, cameras=None: seen.append(tuple(legal.shape[-2:])))
    for size in ((480, 640), (375, 1242), (200, 497), (1080, 1920)):
        model.predict_batch(torch.rand(1, 3, *size))
    assert seen == [(378, 504), (154, 504), (210, 504), (280, 504)]


def test_declared_metadata_is_true():
    found = {}
    dadkit_da3.register_teachers(lambda name, target, **metadata: found.update({name: metadata}))
    assert found.keys() == MODELS.keys()
    for name, metadata in found.items():
        assert metadata["license"] == MODELS[name].license
        with torch.device("meta"):
            spec = DepthAnything3(name).spec
        assert (metadata["space"], metadata["size_multiple"]) == (spec.space, spec.size_multiple)
    assert dadkit.load_student("da3/tiny")(picture()).depth.min() > 0
