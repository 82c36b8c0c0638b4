"""`dadkit calibrate`: metres from known distances and labelled sets, against exact truths and a real stereo pair."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.alignment.few import CalibrationError, fit_few
from dadkit.calibration import (
    KnownPoint,
    calibrate_points,
    calibrate_set,
    read_calibration,
    suggest_points,
    write_calibration,
)
from dadkit.data.sample import Sample
from dadkit.interfaces import CalibratedModel, DepthModel, Metres, ModelSpec, Space
from dadkit.loading import load_model
from dadkit.prediction import Lens

A, B = 0.9, 0.1  # of the truth: 1 / metres = A * brightness + B


class Brightness(DepthModel):
    """Answers with an image's brightness."""

    def __init__(self, space="disparity"):
        super().__init__()
        self.spec = ModelSpec("brightness", space=Space(space), mean=(0, 0, 0), std=(1, 1, 1))

    def estimate(self, x):
        return x.mean(1, keepdim=True), {}


@pytest.fixture(scope="module")
def ramp(tmp_path_factory):
    """A picture that is darker to the right, 100 x 40."""
    file = tmp_path_factory.mktemp("ramp") / "ramp.png"
    row = np.linspace(250, 5, 100).round().astype(np.uint8)
    Image.fromarray(np.tile(row, (40, 1))).convert("RGB").save(file)
    return file


def known(ramp, columns, wrong=()):
    with Image.open(ramp) as picture:
        row = np.asarray(picture)[20, :, 0] / 255
    return [KnownPoint(ramp, x, 20, (2.0 if x in wrong else 1.0) / (A * row[x] + B)) for x in columns]


def test_exact_points_give_the_exact_pair(ramp):
    found = calibrate_points(Brightness(), known(ramp, [5, 25, 50, 75, 95]), along_axis=True)
    assert found.form == "affine"
    assert (found.metres.scale, found.metres.shift) == pytest.approx((A, B), rel=1e-3)
    assert found.expected < 1e-3
    assert [row["disagrees"] for row in found.rows] == [False] * 5


def test_a_wrong_point_is_named_and_does_not_move_the_pair(ramp):
    found = calibrate_points(Brightness(), known(ramp, [5, 20, 35, 50, 65, 80, 95], wrong=[35]), along_axis=True)
    assert (found.metres.scale, found.metres.shift) == pytest.approx((A, B), rel=1e-3)
    assert [row["x"] for row in found.rows if row["disagrees"]] == [35]
    assert any("measure it again" in note for note in found.notes)


def test_a_power_is_found_stored_and_exported(ramp, tmp_path):
    """1 / metres = 0.8 * brightness ** 1.7; no factor and no line has this shape."""
    straight = known(ramp, [5, 25, 50, 75, 95])
    bent = [KnownPoint(p.picture, p.x, p.y, 1 / (0.8 * ((1 / p.metres - B) / A) ** 1.7)) for p in straight]
    found = calibrate_points(Brightness(), bent, along_axis=True)
    assert (found.form, found.metres.scale, found.metres.power) == ("power", pytest.approx(0.8, rel=1e-3), pytest.approx(1.7))
    write_calibration(found, tmp_path / "power.json", "starter/tiny")
    assert read_calibration(tmp_path / "power.json", "starter/tiny", "disparity") == found.metres
    model = CalibratedModel(Brightness(), found.metres)
    image = torch.tensor([0.0, 0.4, 1.0]).expand(1, 3, 1, 3)
    answer = model(image)
    assert answer.valid.flatten().tolist() == [False, True, True]
    assert answer.depth.flatten()[1:].tolist() == pytest.approx([1 / (0.8 * 0.4**1.7), 1 / 0.8], rel=1e-3)
    torch.testing.assert_close(model.deployable()(image), answer.depth)
    # A file of an earlier version names no power.
    stored = json.loads((tmp_path / "power.json").read_text())
    assert stored.pop("power") == found.metres.power
    (tmp_path / "line.json").write_text(json.dumps({**stored, "format": "dadkit calibration 1"}))
    assert read_calibration(tmp_path / "line.json", "starter/tiny", "disparity").power == 1


def test_a_curve_goes_through_the_points_that_agree(ramp, tmp_path):
    """Where the map is darker than 0.5, metres grow with another power; one point is wrong."""

    def metres(value):
        return 1 / (0.8 * value * min(1.0, value / 0.5))

    points = []
    for p in known(ramp, [5, 20, 35, 50, 65, 80, 90]):
        points.append(KnownPoint(ramp, p.x, p.y, metres((1 / p.metres - B) / A) * (2.5 if p.x == 35 else 1)))
    found = calibrate_points(Brightness(), points, along_axis=True)
    assert found.form == "curve"
    assert [row["x"] for row in found.rows if abs(row["error"]) > 1e-6] == [35]
    assert 35 in [row["x"] for row in found.rows if row["disagrees"]]
    values = torch.linspace(0.1, 1, 200)
    inside = (values > 0.15) & (values < 0.95)
    truth = torch.tensor([metres(float(value)) for value in values])
    assert float((found.metres(values) / truth - 1)[inside].abs().max()) < 0.15
    assert bool((found.metres(values).diff() <= 0).all())
    write_calibration(found, tmp_path / "curve.json", "starter/tiny")
    assert read_calibration(tmp_path / "curve.json", "starter/tiny", "disparity") == found.metres
    model, image = CalibratedModel(Brightness(), found.metres), values.expand(1, 3, 1, 200)
    torch.testing.assert_close(model.deployable()(image), model(image).depth)
    # Three points have no curve, and points in the wrong order are pooled.
    assert calibrate_points(Brightness(), points[:3], along_axis=True).form != "curve"
    swapped = fit_few(torch.tensor([0.2, 0.4, 0.5, 0.8]), torch.tensor([5.0, 2.2, 2.6, 1.0]), "disparity", values, form="curve")
    assert swapped.metres[1] < swapped.metres[0]
    assert swapped.metres[2] <= swapped.metres[1]


def test_a_tape_measures_to_the_lens(ramp):
    """At 90 degrees the right edge is seen at 45 degrees: sqrt(2) farther from the lens than along the axis."""
    points = known(ramp, [5, 50, 95])
    metres = [1.0, math.sqrt(1 + (0.5 / 50) ** 2), math.sqrt(1 + (45.5 / 50) ** 2)]
    tape = [KnownPoint(p.picture, p.x, p.y, p.metres * d) for p, d in zip(points[1:], metres[1:], strict=True)]
    found = calibrate_points(Brightness(), tape, lens=Lens(fov=90), form="scale")
    for row, point in zip(found.rows, points[1:], strict=True):
        assert row["metres"] == pytest.approx(point.metres, rel=1e-4)
    unknown = calibrate_points(Brightness(), tape)
    assert any("tape measures to the lens" in note for note in unknown.notes)


@pytest.mark.parametrize(
    ("values", "metres", "form", "message"),
    [
        ([0.5], [2.0], "auto", "at least two known distances"),
        ([0.5, 0.9], [2.0, -1.0], "auto", "positive metres"),
        ([0.1, 0.5, 0.9], [1.0, 2.0, 4.0], "affine", "the other way"),
        ([0.50, 0.52, 0.54], [2.0, 1.9, 1.8], "affine", "of the map's range"),
        ([0.2, 0.5, 0.9], [10.0, 2.0, 1.0], "affine", "beyond infinity"),
        ([-0.2, -0.3], [1.0, 2.0], "auto", "not positive multiples"),
        ([0.1, 0.5, 0.9], [1.0, 2.0, 4.0], "power", "the other way"),
        ([0.2, 0.9], [2.0, 1.0], "power", "three can"),
    ],
)
def test_what_cannot_be_true_is_refused_with_the_reason(values, metres, form, message):
    with pytest.raises(CalibrationError, match=message):
        fit_few(torch.tensor(values), torch.tensor(metres), "disparity", torch.linspace(0, 1, 1000), form=form)


def test_points_of_one_depth_are_warned_of(ramp):
    found = calibrate_points(Brightness(), known(ramp, [50, 52]), along_axis=True)
    assert found.form == "scale"
    assert any("equally far" in note for note in found.notes)


def test_metres_are_held_within_limits_and_marked():
    model = CalibratedModel(Brightness(), Metres(Space.DISPARITY, 1.0, -0.5, 1.0, 4.0))
    image = torch.tensor([0.4, 0.7, 1.0]).expand(1, 3, 1, 3)
    answer = model(image)
    assert answer.space is Space.METRIC
    torch.testing.assert_close(answer.depth.flatten(), torch.tensor([4.0, 4.0, 2.0]))
    assert answer.valid.flatten().tolist() == [False, False, True]
    torch.testing.assert_close(model.deployable()(image), answer.depth)


def test_the_stereo_pair(tmp_path):
    """Places that the command names: five are as good as the best pair, and twenty expect about the real error."""
    data = pytest.importorskip("skimage.data", reason="scikit-image carries the real stereo pair")
    left, _, disparity = data.stereo_motorcycle()
    valid = np.isfinite(disparity)
    metres = np.where(valid, 994.978 * 0.193001 / (np.where(valid, disparity, 0) + 31.086), np.nan)
    picture = tmp_path / "motorcycle.png"
    Image.fromarray(left).save(picture)
    model = load_model("starter/small")
    rows, columns = np.nonzero(valid)
    values = model.predict(picture).depth[0, 0].double()[torch.from_numpy(valid)]
    truth = torch.from_numpy(metres[valid]).double()

    def measured(count):
        points = []
        for x, y in suggest_points(model, picture, count):
            nearest = ((rows - y) ** 2 + (columns - x) ** 2).argmin()
            y, x = rows[nearest], columns[nearest]
            points.append(KnownPoint(picture, x, y, float(metres[y, x])))
        found = calibrate_points(model, points, along_axis=True)
        return float((found.metres(values) / truth - 1).abs().median()), found.expected

    error, _ = measured(5)
    best = min(
        float((1 / (a * values + b).clamp(min=0.05) / truth - 1).abs().median())
        for a in np.linspace(0.04, 0.07, 16)
        for b in np.linspace(0.08, 0.18, 11)
    )
    assert error < best < 0.09
    error, expected = measured(20)
    assert expected == pytest.approx(error, rel=0.6)
    exact = fit_few(1 / truth[::60000], truth[::60000], "disparity", 1 / truth)  # of a perfect relative model
    assert float((exact.curve(1 / truth) / truth - 1).abs().max()) < 1e-9


def labelled(pairs):
    """Pictures of brightness, and metres by one pair each."""
    generator = torch.Generator().manual_seed(0)
    samples = []
    for index, (scale, shift) in enumerate(pairs):
        image = torch.randint(20, 255, (1, 16, 16), generator=generator, dtype=torch.uint8).expand(3, -1, -1)
        depth = 1 / (scale * image[:1].float() / 255 + shift)
        samples.append(Sample(image, str(index), depth, None, Space.METRIC))
    return samples


def test_a_set_with_one_pair_and_one_where_every_picture_has_its_own():
    found = calibrate_set(Brightness(), labelled([(A, B)] * 6))
    assert (found.form, found.metres.scale, found.metres.shift) == (
        "affine",
        pytest.approx(A, rel=1e-4),
        pytest.approx(B, rel=1e-3),
    )
    assert found.expected < 1e-3
    bent = [Sample(s.image, s.key, 1 / (s.image[:1].float() / 255) ** 0.6, None, Space.METRIC) for s in labelled([(A, B)] * 6)]
    assert calibrate_set(Brightness(), bent).metres.power == pytest.approx(0.6, rel=1e-3)
    various = calibrate_set(Brightness(), labelled([(A * k, B / k) for k in (0.5, 0.7, 1.0, 1.4, 2.0, 3.0)]), form="affine")
    assert various.facts["abs_rel"]["own_pair"] < 1e-3 < various.facts["abs_rel"]["expected"]
    assert any("no global calibration" in note for note in various.notes)


def test_a_metric_model_gets_a_factor_only_where_it_helps():
    samples = labelled([(A, B)] * 6)
    doubled = [Sample(s.image, s.key, 2 * s.image[:1].float().clamp(min=1) / 255, None, Space.METRIC) for s in samples]
    assert calibrate_set(Brightness("metric"), doubled).metres.scale == pytest.approx(2, rel=1e-4)
    right = [Sample(s.image, s.key, s.depth / 2, None, Space.METRIC) for s in doubled]
    with pytest.raises(CalibrationError, match="does not help"):
        calibrate_set(Brightness("metric"), right)


@pytest.mark.slow  # it traces and translates a network
def test_the_command_stores_what_predict_and_export_use(ramp, tmp_path, dadkit):
    onnx = pytest.importorskip("onnxruntime")
    advice = dadkit("calibrate", "starter/tiny", ramp)
    assert advice.code == 0
    assert advice.out.count("--at") == 5
    file = tmp_path / "here.json"
    at = [word for x, metres in ((10, 1.0), (50, 1.2), (90, 1.5)) for word in ("--at", f"{x},20={metres}m")]
    answer = dadkit("calibrate", "starter/tiny", ramp, *at, "--along-axis", "--form", "scale", "-o", file)
    assert answer.code == 0, answer.err
    stored = json.loads(file.read_text())
    assert stored["model"] == {"component": "starter/tiny"}
    assert [point["metres"] for point in stored["points"]] == [1.0, 1.2, 1.5]
    assert str(tmp_path) not in file.read_text()
    made = dadkit(
        "predict", ramp, "-m", "starter/tiny", "--align", file, "-o", tmp_path / "out", "-f", "npy", "--ply", "--fov", 60
    )
    assert made.code == 0, made.err
    assert "metres, larger is farther" in made.err
    metres = np.load(tmp_path / "out" / "ramp.npy")
    assert metres[20, 50] == pytest.approx(stored["points"][1]["fitted"], rel=0.05)
    assert dadkit("export", "starter/tiny", "--align", file, "-o", tmp_path / "m.onnx").code == 0
    facts = json.loads(onnx.InferenceSession(str(tmp_path / "m.onnx")).get_modelmeta().custom_metadata_map["dadkit"])
    assert facts["space"] == "metric"
    assert facts["source"]["metres"]["scale"] == pytest.approx(stored["scale"])
    other = dadkit("predict", ramp, "-m", "starter/small", "--align", file, "-o", tmp_path / "other")
    assert other.code == 2
    assert "calibrate it anew" in other.err
