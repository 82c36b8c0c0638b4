"""Each field of a protocol does what it says, and the shipped files say what their sources do."""

import json
import math

import pytest
import torch
import yaml

from dadkit.data.sample import Sample
from dadkit.errors import DataError
from dadkit.evaluation import Protocol, ProtocolError, load_protocol, protocol_names
from dadkit.evaluation.evaluate import predict_under
from dadkit.evaluation.protocol import CROPS, cut_frame, keep_inside
from dadkit.interfaces import DepthModel, ModelSpec, Prediction
from dadkit.plugin import get_registry
from dadkit.spaces import Space

FULL = torch.ones(1, 1, 4, 4, dtype=torch.bool)


def protocol(**fields):
    base = {"name": "x", "summary": "test", "space": "disparity", "alignment": "none", "min_depth": 0.5, "max_depth": 10.0}
    return Protocol(**{**base, **fields})


def test_crops_are_those_of_the_public_code():
    assert CROPS["eigen-nyu"].box(480, 640) == (45, 471, 41, 601)
    # Computed by hand from the published fractions for the benchmark frame of 352 x 1216, and for a raw frame.
    assert CROPS["garg"].box(352, 1216) == (143, 349, 43, 1172)
    assert CROPS["eigen-kitti"].box(352, 1216) == (117, 321, 43, 1172)
    assert CROPS["garg"].box(375, 1242) == (153, 371, 44, 1197)
    inside = keep_inside(torch.ones(2, 480, 640, dtype=torch.bool), "eigen-nyu")
    assert inside.sum().item() == 2 * 426 * 560
    assert inside[0, 45, 41]
    assert not inside[0, 44, 41]
    assert not inside[0, 471, 41]


def test_the_kitti_frame_is_cut_at_the_bottom_centre_and_cameras_move_along():
    image = torch.arange(375 * 1242).remainder(256).to(torch.uint8).view(1, 375, 1242).expand(3, -1, -1)
    camera = torch.tensor([[700.0, 0, 621], [0, 700, 187.5], [0, 0, 1]])
    sample = Sample(image, "a", torch.rand(1, 375, 1242), FULL.new_ones(1, 375, 1242), Space.METRIC, camera)
    cut = cut_frame(sample, "kitti-benchmark")
    assert cut.image.shape == (3, 352, 1216)
    assert torch.equal(cut.depth, sample.depth[:, 23:, 13:1229])
    assert cut.intrinsics[:2, 2].tolist() == [608, 164.5]
    assert sample.intrinsics[0, 2] == 621
    with pytest.raises(DataError, match="smaller than the frame"):
        cut_frame(Sample(torch.zeros(3, 352, 1000, dtype=torch.uint8), "b"), "kitti-benchmark")


@pytest.mark.parametrize(("floor", "expected"), [("cap", 10.0), (0.25, 4.0), ("image", 5.0)])
def test_floors_bound_the_aligned_disparity(floor, expected):
    truth = torch.full((1, 1, 4, 4), 2.0)
    truth[0, 0, 0, 0] = 5.0
    disparity = torch.zeros(1, 1, 4, 4)  # infinitely far
    scores = protocol(floor=floor).score(Prediction(disparity, Space.DISPARITY), truth, FULL)
    assert scores.depth.unique().tolist() == [expected]
    assert scores.metrics["abs_rel"].item() == pytest.approx((15 * (expected - 2) / 2 + abs(expected - 5) / 5) / 16)


@pytest.mark.parametrize(("mask", "count"), [("open", 2), ("closed", 4), ("none", 6)])
def test_range_masks(mask, count):
    truth = torch.tensor([[[[0.5, 1.0, 9.9, 10.0], [0.1, 20.0, math.inf, math.nan]]]])
    scores = protocol(space="metric", mask=mask).score(
        Prediction(torch.ones(1, 1, 2, 4), Space.METRIC), truth, torch.ones(1, 1, 2, 4, dtype=torch.bool)
    )
    assert scores.valid_pixels.item() == count


def test_clip_may_differ_from_the_range():
    truth = torch.full((1, 1, 4, 4), 2.0)
    scores = protocol(space="metric", clip=(0.6, 3.0)).score(Prediction(truth * 9, Space.METRIC), truth, FULL)
    assert scores.depth.unique().tolist() == [3]


def test_fit_on_positive_predictions_only():
    truth = torch.linspace(1, 4, 16).view(1, 1, 4, 4)
    disparity = 1 / truth
    disparity[0, 0, 0] = -5.0
    fields = {"alignment": "scale-shift", "floor": 1e-3}
    filtered = protocol(**fields, fit_positive=True).score(Prediction(disparity, Space.DISPARITY), truth, FULL)
    everything = protocol(**fields).score(Prediction(disparity, Space.DISPARITY), truth, FULL)
    assert filtered.affine.scale.item() == pytest.approx(1, rel=1e-6)
    assert everything.affine.scale.item() < 0.5
    assert filtered.valid_pixels.item() == 16  # all are measured


def test_thinned_fit_reads_every_kth_row():
    truth = torch.rand(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)) + 1
    odd = truth.clone()
    odd[..., 1::2, :] = 77.0
    odd[..., :, 1::2] = 77.0
    full = torch.ones_like(truth, dtype=torch.bool)
    fields = {"space": "depth", "alignment": "scale-shift"}
    scores = protocol(**fields, fit_max_side=4).score(Prediction(odd, Space.DEPTH), truth, full)
    assert scores.affine.scale.item() == pytest.approx(1, rel=1e-6)


class Columns(DepthModel):
    """Answers with the column's number, and notes the sizes it is asked for."""

    def __init__(self):
        super().__init__()
        self.spec = ModelSpec(name="columns", space=Space.DEPTH, mean=(0, 0, 0), std=(1, 1, 1))
        self.sizes = []

    def estimate(self, x):
        self.sizes.append(tuple(x.shape[-2:]))
        return torch.arange(float(x.shape[-1])).expand(x.shape[0], 1, *x.shape[-2:]), {}


def test_resize_and_flip():
    model = Columns()
    image = torch.rand(3, 20, 40)
    small = predict_under(protocol(space="depth", resize=20), model, [image, image], batch_size=2)
    assert model.sizes == [(10, 20)]
    assert small.depth.shape == (2, 1, 20, 40)
    assert predict_under(protocol(space="depth", resize=64), Columns(), [image], batch_size=1).depth[0, 0, 0, -1] == 39
    both = predict_under(protocol(space="depth", flip=True), Columns(), [image], batch_size=1)
    assert both.depth.unique().tolist() == [19.5]  # the mean of a ramp and its mirror image


def test_known_values_of_the_shipped_protocols():
    def of(name, dataset):
        p = load_protocol(name, dataset)
        assert p.dataset == dataset
        return p.crop, p.frame, p.max_depth

    assert of("marigold", "nyuv2") == ("eigen-nyu", "none", 10)
    assert of("marigold", "kitti-eigen") == ("eigen-kitti", "kitti-benchmark", 80)
    assert of("dav2-kitti", "kitti-eigen") == ("garg", "none", 80)
    assert load_protocol("dav2-nyu", "nyuv2").options == {"depth": "raw"}
    assert load_protocol("dav2-diode-indoor", "diode").options == {"part": "indoor"}
    assert load_protocol("genpercept-disparity", "diode").clip == (0.6, 350)
    assert load_protocol("genpercept-disparity", "eth3d").floor_text == "0.001"
    assert load_protocol("moge").floor_text == "1/max(truth)"
    assert load_protocol("marigold").dataset is None
    assert load_protocol("marigold", "procedural").dataset is None


def test_every_protocol_names_datasets_and_options_that_exist():
    registry = get_registry()
    known = {component.name for component in registry.components("dataset")}
    for name in protocol_names():
        p = load_protocol(name)
        assert set(p.datasets) <= known, name
        for dataset in p.datasets:
            own = load_protocol(name, dataset)
            from dadkit.config.components import options_model

            fields = {field.alias for field in options_model(registry.resolve("dataset", dataset)).model_fields.values()}
            assert set(own.options) <= fields, (name, dataset)
            json.dumps(own.plain(), allow_nan=False)
            again = Protocol(**{key: value for key, value in own.plain().items() if key != "datasets"})
            assert again == own.model_copy(update={"datasets": {}})
            assert all(own.words().values())


def test_a_protocol_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump({"summary": "mine", "space": "metric", "metrics": ["silog_0.7", "mae"]}))
    found = load_protocol(str(path))
    assert (found.name, found.metrics) == ("mine", ("silog_0.7", "mae"))
    for text, message in {
        "summary: x\nmetrics: [abs_rle]": "mine.yaml:1:1: unknown metric 'abs_rle'",
        "summary: x\ncorp: garg": "mine.yaml:2:1: corp: unknown key, did you mean 'crop'",
        "summary: x\nmax_depth: .inf": "floor: cap needs a finite max_depth",
        "summary: x\nsummary: y": "mine.yaml:2:1: summary: ",
        "- a": "is a mapping",
        "a: [": "mine.yaml:1:5: the bracket",
        "summary: x\ndatasets:\n  nyuv2: {crop: garbage}": "mine.yaml:3:17: datasets.nyuv2.crop: must be 'none'",
        "summary: x\ndatasets: {nyuv2: }": "datasets.nyuv2: must be a mapping",
        "summary: x\ntask: ordinal": "unknown metric 'abs_rel' for the task 'ordinal'",
    }.items():
        path.write_text(text)
        with pytest.raises(ProtocolError, match=message):
            load_protocol(str(path))
    path.write_bytes(b"summary: \xff")
    with pytest.raises(ProtocolError, match=r"mine\.yaml cannot be read"):
        load_protocol(str(path))
    path.write_text("{summary: x, options: {list: on, when: 2020-01-01, eps: 1e-3}}")  # as in a run's file: YAML 1.2
    assert load_protocol(str(path)).options == {"list": "on", "when": "2020-01-01", "eps": 1e-3}
    with pytest.raises(ProtocolError, match="does not exist"):
        load_protocol(str(tmp_path / "gone.yaml"))
