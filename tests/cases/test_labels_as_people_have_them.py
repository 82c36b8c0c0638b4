"""Labels as people have them: units that cannot lie, sizes that differ, lists of the field."""

import sys
import warnings
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data import DepthPairs, Images, Sample, SampleError
from dadkit.data.benchmarks.training_sets import TartanAir
from dadkit.data.views import cut
from dadkit.errors import DataError
from dadkit.evaluation import EvaluationPlan, Protocol, evaluate, evaluate_run, load_protocol
from dadkit.evaluation.metrics import RELATIVE_METRICS
from dadkit.interfaces import Contexts, DepthModel, MapPair, ModelSpec, Prediction, StepInputs
from dadkit.normalizers import Global
from dadkit.prediction import write_prediction
from dadkit.report.evaluation import write_evaluation_report
from dadkit.spaces import Space
from dadkit.training.labels import labelled_target
from dadkit.training.terms import MapTerm

from .conftest import picture


@pytest.fixture
def pair(tmp_path):
    """Writes ``name``'s image of 60 x 40 pixels and what ``save`` writes as its depth."""

    def make(save, name="a", size=(60, 40)):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "depth").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
        save(tmp_path / "depth" / name)
        return tmp_path

    return make


def test_21_whole_numbers_in_metres_need_a_scale(pair):
    root = pair(lambda path: np.save(path.with_suffix(".npy"), np.full((40, 60), 2900, np.int32)))
    with pytest.raises(DataError, match="whole numbers up to 2900"):
        DepthPairs(root, encoding="npy", space="metric")
    assert float(DepthPairs(root, encoding="npy", space="metric", scale=0.001)[0].depth.mean()) == pytest.approx(2.9)
    with pytest.warns(UserWarning, match="2900 m: is scale missing"):
        DepthPairs(root, encoding="npy", space="metric", scale=1)
    np.save(root / "depth" / "a.npy", np.linspace(0, 1, 2400, dtype=np.float32).reshape(40, 60))
    with pytest.warns(UserWarning, match="exactly 1 m: if each map was normalised"):
        DepthPairs(root, encoding="npy", space="metric")


def test_21_numbers_that_may_be_sky_or_unknown_are_asked_about(pair):
    stored = np.full((40, 60), 2900, np.uint16)
    stored[:10] = 65535
    root = pair(lambda path: Image.fromarray(stored).save(path.with_suffix(".png")))
    with pytest.warns(UserWarning, match="25% of its pixels hold 65535, the largest number that png16 has"):
        DepthPairs(root, encoding="png16", space="metric", scale=0.001)
    np.save(root / "depth" / "a.npy", np.where(stored == 65535, 1e10, 2.9))
    with pytest.warns(UserWarning, match="25% of its pixels are farther than 10 km"):
        DepthPairs(root, encoding="npy", space="metric")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for said in ({"sky": 65535}, {"invalid": 65535}, {"max_depth": 60}):
            DepthPairs(root, encoding="png16", space="metric", scale=0.001, **said)


def test_23_greyscale_in_three_channels(pair):
    grey = np.tile(np.arange(60, dtype=np.uint8) + 1, (40, 1))
    root = pair(lambda path: Image.fromarray(np.dstack([grey] * 3)).save(path.with_suffix(".png")))
    assert DepthPairs(root, encoding="png8", space="disparity")[0].depth[0, 0].tolist() == grey[0].tolist()
    Image.fromarray(picture(40, 60)).save(root / "depth" / "a.png")
    with pytest.raises(SampleError, match="colours are no depth"):
        DepthPairs(root, encoding="png8", space="disparity")[0]


def test_23_zero_may_be_the_farthest_of_a_disparity(pair):
    ramp = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
    root = pair(lambda path: Image.fromarray(ramp).save(path.with_suffix(".png")))
    unknown = DepthPairs(root, encoding="png8", space="disparity")[0]
    far = DepthPairs(root, encoding="png8", space="disparity", zero="far")[0]
    assert not bool(unknown.valid[0, :, 0].any())
    assert bool(far.valid.all())
    with pytest.raises(DataError, match="no depth"):
        DepthPairs(root, encoding="png8", space="metric", scale=0.1, zero="far")


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
def test_23_tiff_labels(pair, dtype):
    stored = np.arange(2400).reshape(40, 60).astype(dtype) + dtype(1)
    root = pair(lambda path: Image.fromarray(stored).save(path.with_suffix(".tif")))
    assert DepthPairs(root, encoding="tiff", space="metric", scale=0.001)[0].depth[0].numpy() == pytest.approx(stored * 1e-3)
    if dtype != np.float32:
        with pytest.raises(DataError, match="whole numbers up to 2400"):
            DepthPairs(root, encoding="tiff", space="metric")
    Image.fromarray(np.zeros((40, 60, 3), np.uint8)).save(root / "depth" / "a.tif")
    with pytest.raises(SampleError, match=r"a\.tif.*one channel, but it is TIFF with pixels of mode 'RGB'"):
        DepthPairs(root, encoding="tiff", space="metric", scale=0.001)[0]


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_23_exr_labels(pair, kind):
    exr = pytest.importorskip("OpenEXR")
    stored = (np.arange(2400).reshape(40, 60) / 256 + 1).astype(kind)
    channels = {"A": np.ones((40, 60), kind), "Z": stored}
    root = pair(lambda path: exr.File({}, channels).write(str(path.with_suffix(".exr"))))
    sample = DepthPairs(root, encoding="exr", space="metric")[0]
    assert np.array_equal(sample.depth[0].numpy(), stored.astype(np.float32))
    assert float(DepthPairs(root, encoding="exr", space="metric", array="A")[0].depth.max()) == 1
    with pytest.raises(SampleError, match=r"a\.exr: the file has no channel 'D', only A, Z"):
        DepthPairs(root, encoding="exr", space="metric", array="D")[0]


def test_23_exr_without_its_package_says_which(pair, monkeypatch):
    monkeypatch.setitem(sys.modules, "OpenEXR", None)
    root = pair(lambda path: path.with_suffix(".exr").write_bytes(b"x"))
    with pytest.raises(DataError, match=r"pip install 'dadkit\[exr\]'"):
        DepthPairs(root, encoding="exr", space="metric")


def test_24_a_result_of_dadkit_carries_its_range_and_space(pair):
    values = torch.linspace(5.2, 5.3, 2400).view(1, 40, 60)
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    about = {"space": Space.METRIC, "valid": None, "formats": ["png16"], "model": "m"}
    root = pair(lambda path: write_prediction(path, image, values, **about))
    sample = DepthPairs(root, encoding="png16", space="metric")[0]
    torch.testing.assert_close(sample.depth, values, rtol=1e-5, atol=0)
    with pytest.raises(DataError, match="carries its own range"):
        DepthPairs(root, encoding="png16", space="metric", scale=0.001)
    with pytest.raises(DataError, match="in space 'metric'"):
        DepthPairs(root, encoding="png16", space="disparity")


def test_22_carla_stores_24_bits_in_colours(pair):
    metres = np.tile(np.linspace(1, 900, 60), (40, 1))
    stored = np.round(metres / 1000 * (2**24 - 1)).astype(int)
    colours = np.stack([stored & 255, (stored >> 8) & 255, stored >> 16], -1).astype(np.uint8)
    root = pair(lambda path: Image.fromarray(colours).save(path.with_suffix(".png")))
    with pytest.warns(UserWarning, match="median depth"):
        dataset = DepthPairs(root, encoding="carla24", space="metric", scale=1000)
    np.testing.assert_allclose(dataset[0].depth[0].numpy(), metres, rtol=1e-4)


def test_20_depth_of_another_size_is_placed_once(pair):
    small = np.arange(1, 7, dtype=np.float32).reshape(2, 3) / 2 + 0.25
    root = pair(lambda path: np.save(path.with_suffix(".npy"), small))
    with pytest.raises(Exception, match="resize: nearest"):
        DepthPairs(root, encoding="npy", space="metric")[0]
    sample = DepthPairs(root, encoding="npy", space="metric", resize="nearest")[0]
    assert sorted(sample.depth[sample.valid].tolist()) == small.flatten().tolist()
    assert bool(sample.valid[0, 10, 10])
    assert bool(sample.valid[0, 30, 50])
    np.save(root / "depth" / "a.npy", np.ones((3, 2), np.float32))
    with pytest.raises(SampleError, match="turn the depth"):
        DepthPairs(root, encoding="npy", space="metric", resize="nearest")[0]


@pytest.mark.parametrize(
    ("line", "encoding"),
    [
        ("images/{0}.png depth/{0}.npy 721.5", "utf-8"),
        ("/images/{0}.png /depth/{0}.npy 518.8", "utf-8"),  # BTS, for NYU
        ("images/{0}.png;depth/{0}.npy", "utf-8-sig"),
        ("images\\{0}.png\tdepth\\{0}.npy", "utf-16"),  # PowerShell
    ],
)
def test_29_lists_of_the_field(pair, line, encoding):
    root = pair(lambda path: np.save(path.with_suffix(".npy"), np.full((40, 60), 1.5, np.float32)))
    other = line.format("b").replace("/depth/b.npy", "None").replace("depth/b.npy", "None").replace("depth\\b.npy", "None")
    heading = "image;depth\n" * (";" in line)  # a table's
    (root / "list.txt").write_text(f"{heading}{line.format('a')}\n{other}\n", encoding=encoding)
    with pytest.warns(UserWarning, match="1 lines without depth"):
        dataset = DepthPairs(root / "list.txt", encoding="npy", space="metric")
    assert [dataset.key(i) for i in range(len(dataset))] == ["images/a"]
    (root / "list.csv").write_text("image\nimages/a.png\n")
    assert len(Images(str(root / "list.csv"), min_size=1)) == 1
    (root / "list.json").write_text('[["images/a.png", "depth/a.npy"]]')
    with pytest.raises(DataError, match="is JSON; write its paths as text, an image and its depth"):
        DepthPairs(root / "list.json", encoding="npy", space="metric")


def test_30_missing_depth_can_be_skipped_and_counted(pair):
    for name in ("a", "b"):
        root = pair(lambda path: np.save(path.with_suffix(".npy"), np.full((40, 60), 1.5, np.float32)), name)
    (root / "depth" / "b.npy").unlink()
    with pytest.raises(DataError, match="missing: skip"):
        DepthPairs(root, encoding="npy", space="metric")
    with pytest.warns(UserWarning, match="1 of 2 images have no depth"):
        assert len(DepthPairs(root, encoding="npy", space="metric", missing="skip")) == 1


@pytest.mark.parametrize("view", [64, 56, 20])
def test_25_sparse_labels_survive_smaller_views(view):
    height, width = 128, 256
    known = torch.zeros(1, height, width, dtype=torch.bool)
    known[:, ::9, ::7] = True
    depth = torch.arange(1.0, 1 + height * width).view(1, height, width)
    sample = Sample(torch.zeros(3, height, width, dtype=torch.uint8), "k", depth, known, Space.METRIC)
    none = torch.zeros(0, 4, dtype=torch.float64)
    cells = {}  # by a plain loop: the label nearest to the centre of each pixel of the view
    for _, y, x in known.nonzero().tolist():
        down, across = (y + 0.5) * view / height, (x + 0.5) * view / width
        off = (down % 1 - 0.5) ** 2 + (across % 1 - 0.5) ** 2
        key = int(down), int(across)
        cells[key] = min(cells.get(key, (9.0, 0.0)), (off, float(depth[0, y, x])))
    for flip in (False, True):
        whole = Contexts(torch.tensor([0.0, 0, width, height], dtype=torch.float64), (view, view), none, (8, 8))
        found = cut(sample, whole, flip=flip)
        valid, values = (one.flip(-1) if flip else one for one in (found.valid, found.depth))
        assert {(i, j) for _, i, j in valid.nonzero().tolist()} == set(cells)
        assert all(values[0, i, j] == value for (i, j), (_, value) in cells.items())


class Bright(DepthModel):
    """Answers the first channel, so 1 - 2x or so of what a test writes as labels."""

    spec = ModelSpec(name="bright", space=Space.DISPARITY, license="none")

    def estimate(self, x):
        return 3 - 2 * x[:, :1], {}


class Brightness(DepthModel):
    """Answers that bright is far."""

    def __init__(self):
        super().__init__()
        self.spec = ModelSpec(name="brightness", space=Space.DEPTH, mean=(0, 0, 0), std=(1, 1, 1))

    def estimate(self, x):
        return x.mean(1, keepdim=True), {}


def test_62_depth_that_runs_the_wrong_way_or_leaves_the_protocol_is_said():
    far = torch.linspace(1, 3, 24 * 32).view(1, 24, 32)
    image = (far * 80).to(torch.uint8).expand(3, 24, 32)
    protocol = load_protocol("affine-depth")

    def measured(depth):
        return evaluate(Brightness(), [Sample(image, "a", depth=depth, space=Space.METRIC)], protocol, name="m")

    assert measured(far).doubt is None
    assert "what it calls near is far in the true depth of 1 of 1 images" in measured(1 / far).doubt
    with pytest.raises(
        DataError, match=r"a: true depth of 1000 to 3000 m has no pixels that count \(open range 0.001 to 100 m"
    ):
        measured(1000 * far)


@pytest.mark.parametrize("space", ["disparity", "depth"])
def test_23_relative_labels_are_evaluated_up_to_scale_and_shift(pair, tmp_path, space):
    ramp = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
    root = pair(lambda path: Image.fromarray(255 - ramp).save(path.with_suffix(".png")))
    Image.fromarray(np.stack([ramp] * 3, -1)).save(root / "images" / "a.png")
    options = {"root": str(root), "encoding": "png8", "space": space, "zero": "far"}
    plan = EvaluationPlan(load_protocol(f"relative-{space}"), "pairs", options, trivial=True)
    model = Bright()
    model.spec = replace(model.spec, space=Space(space))
    row, *_ = evaluate_run(plan, tmp_path / "out", {"student": model}, training_data=plan.open())
    assert row.mean["ssi_mae"] == pytest.approx(0, abs=1e-6)
    assert row.mean["ssi_rmse"] == pytest.approx(0, abs=1e-6)
    assert row.mean["correlation"] == pytest.approx(1)
    page = write_evaluation_report(tmp_path / "out", plan, {"student": model})
    assert "SSI MAE" in page.read_text()
    with pytest.raises(DataError, match=f"needs true metric depth.*the protocol relative-{space}"):
        evaluate(model, plan.open(), load_protocol(f"affine-{space}"), name="student")
    with pytest.raises(ValueError, match="'abs_rel' needs metres"):
        Protocol(name="x", summary="", labels="relative", alignment="scale-shift", metrics=("abs_rel",))


def test_23_metrics_of_relative_labels_do_not_see_scale_and_shift():
    generator = torch.Generator().manual_seed(0)
    truth, noise = torch.rand(2, 1, 1, 16, 16, generator=generator, dtype=torch.float64)
    known = torch.ones(1, 1, 16, 16, dtype=torch.bool)
    protocol = load_protocol("relative-disparity")
    found = []
    for scale, shift in ((1, 0), (-3, 7), (250, -90)):
        scores = protocol.score(Prediction((truth + noise) * scale + shift, Space.DISPARITY), truth * 4 + 2, known)
        found.append([float(scores.metrics[name]) for name in RELATIVE_METRICS])
    assert found[0] == pytest.approx(found[1], rel=1e-6)
    assert found[0] == pytest.approx(found[2], rel=1e-6)
    r = np.corrcoef((truth + noise).flatten(), truth.flatten())[0, 1]
    assert found[0][2] == pytest.approx(r)
    assert found[0][1] == pytest.approx(np.sqrt(1 - r * r))


def test_27_sky_by_a_threshold(pair):
    stored = np.tile(np.arange(60) + 1.5, (40, 1))
    stored[0, 0], stored[1, 1] = np.nan, 5000
    root = pair(lambda path: np.save(path.with_suffix(".npy"), stored))
    sample = DepthPairs(root, encoding="npy", space="metric", sky_beyond=51.0, invalid=5000.0)[0]
    assert sample.depth[0, 2, 50:].isinf().all()
    assert sample.depth[0, 2, :50].isfinite().all()
    assert not sample.valid[0, 0, 0]
    assert not sample.valid[0, 1, 1]
    with pytest.raises(DataError, match="no number in a disparity"):
        DepthPairs(root, encoding="npy", space="disparity", sky_beyond=50.0)


def test_27_black_frames_of_tartanair_are_skipped(tmp_path):
    flight = tmp_path / "office" / "Easy" / "P000"
    for part in ("image_left", "depth_left"):
        (flight / part).mkdir(parents=True)
    for k in range(2):
        Image.fromarray(np.full((48, 64, 3), 90 * k, np.uint8)).save(flight / "image_left" / f"{k:06}_left.png")
        np.save(flight / "depth_left" / f"{k:06}_left_depth.npy", np.ones((48, 64), "f4"))
    frames = TartanAir(tmp_path)
    with pytest.raises(SampleError, match=r"000000_left\.png.*the frame is black"):
        frames[0]
    assert frames[1].depth.max() == 1


def test_26_a_few_pixels_of_a_millimetre_do_not_dominate():
    generator = torch.Generator().manual_seed(0)
    metres = 1 + 4 * torch.rand(1, 48, 48, generator=generator)
    noisy = metres.clone()
    noisy[:, 20, 20:25] = 0.001  # 0.2 %
    image, box = torch.zeros(3, 48, 48, dtype=torch.uint8), torch.tensor([0.0, 0, 48, 48])
    contexts = Contexts(region=box, view_size=(48, 48), patches=torch.zeros(0, 4), patch_size=(48, 48))

    def seen(depth, near_floor, space=Space.DISPARITY):
        sample = Sample(image=image, key="a", depth=depth, valid=torch.ones_like(depth, dtype=torch.bool), space=Space.METRIC)
        return cut(sample, contexts, space=space, near_floor=near_floor)

    def near(near_floor):
        view = seen(noisy, near_floor)
        batch = SimpleNamespace(depth=view.depth[None], valid=view.valid[None], space=view.space)
        target, mask = labelled_target(batch, Space.DISPARITY)
        pair = MapPair(1 / metres[None] + 0.05 * torch.randn(target.shape, generator=generator), target, mask, 1)
        return float(MapTerm("labels", Global()).diagnostics(StepInputs(Space.DISPARITY, 1, True, pair))["near_share"])

    assert near(0.0) > 0.45
    assert near(0.05) < 0.25
    assert torch.equal(seen(metres, 0.05).depth, seen(metres, 0.0).depth)
    assert torch.equal(seen(noisy, 0.05, Space.METRIC).depth, noisy)  # metres stay metres


def test_28_sky_is_left_out_or_counts_as_the_farthest():
    metres = torch.full((1, 1, 4, 4), 7.0)
    metres[:, :, 0] = torch.inf
    batch = SimpleNamespace(depth=metres, valid=torch.ones_like(metres, dtype=torch.bool), space=Space.METRIC)
    _, mask = labelled_target(batch, Space.METRIC)
    assert int(mask.sum()) == 12
    target, mask = labelled_target(batch, Space.METRIC, sky_depth=80.0)
    assert bool(mask.all())
    assert target[0, 0, 0].tolist() == [80.0] * 4
