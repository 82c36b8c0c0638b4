"""Completion under a protocol: the points, the trivial rows, and which pixels are measured."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.completion.align import Align
from dadkit.data.patterns import lidar_lines
from dadkit.data.sample import Sample
from dadkit.errors import DataError, SampleError
from dadkit.evaluation import EvaluationPlan, Protocol, evaluate, evaluate_run, load_protocol
from dadkit.evaluation.completion import Completed, Nearest, Points
from dadkit.evaluation.protocol import cut_frame
from dadkit.evaluation.run import VerticalRamp
from dadkit.interfaces import Hints
from dadkit.spaces import Space

SIZE = (24, 40)
ROWS = torch.linspace(0, 1, SIZE[0])[:, None].expand(SIZE)
DEPTH = (1 / (0.2 + 0.6 * ROWS))[None]


def sample(key="a", **given):
    values = {"depth": DEPTH.clone(), "valid": torch.ones(1, *SIZE, dtype=torch.bool), "space": Space.METRIC}
    return Sample(torch.zeros(3, *SIZE, dtype=torch.uint8), key, **{**values, **given})


def protocol(points, **fields):
    return Protocol(name="mine", summary="", space="metric", points=points, **{"metrics": ("abs_rel",), **fields})


class Samples(list):
    def key(self, index):
        return self[index].key


def test_points_depend_on_the_key_and_the_seed_alone():
    rule = Points(count=20, noise=0.01)
    first = rule.given(sample("a")).hints
    assert torch.equal(first.depth, rule.given(sample("a")).hints.depth)
    assert not torch.equal(first.valid, rule.given(sample("b")).hints.valid)
    assert not torch.equal(first.valid, Points(count=20, noise=0.01, seed=1).given(sample("a")).hints.valid)
    assert int(first.valid.sum()) == 20


def test_points_are_left_out_by_depth_and_by_what_stands_before_them():
    own = Hints.from_points(torch.tensor([[5.0, 5, 2], [6, 6, 9], [30, 20, 50]]), SIZE)
    given = sample(hints=own)
    count = {name: int(Points(source="dataset", **rule).given(given).hints.valid.sum()) for name, rule in RULES.items()}
    assert count == {"all": 3, "near": 2, "before": 2}
    with pytest.raises(SampleError, match="no point"):
        Points(source="dataset", max_depth=1).given(given)
    with pytest.raises(DataError, match="dataset's own points"):
        Points(source="dataset").given(sample())
    with pytest.raises(DataError, match="camera"):
        Points(lines=8).given(sample())


RULES = {"all": {}, "near": {"max_depth": 10}, "before": {"drop_behind": 1.5}}


def test_lines_of_a_lidar_are_told_apart_by_elevation():
    camera = torch.tensor([[40.0, 0, 20], [0, 40, 12], [0, 0, 1]])
    sweep = Hints(torch.ones(1, 1, *SIZE), torch.ones(1, 1, *SIZE, dtype=torch.bool))
    kept = lidar_lines(sweep, camera, 8)
    share = float(kept.valid.float().mean())
    assert 0.05 < share < 0.25
    row, column = kept.valid[0, 0].nonzero().double().unbind(1)
    x, y = (column + 0.5 - 20) / 40, (row + 0.5 - 12) / 40
    elevation = torch.atan2(y, (1 + x**2).sqrt())
    whole = torch.atan2(torch.tensor(11.5 / 40), torch.tensor((1 + (0.5 / 40) ** 2) ** 0.5))
    line = (elevation + whole) / (2 * whole) * 64
    assert bool(((line - line.round()).abs() <= 0.5).all() & (line.round() % 8 == 0).all())
    assert lidar_lines(sweep, camera, 64) is sweep


def test_nearest_point_is_that_of_a_search_through_all():
    hints = Points(count=15).given(sample()).hints
    answer = Nearest().complete(torch.zeros(1, 3, *SIZE), hints).depth[0, 0]
    at = hints.valid[0, 0].nonzero().double()
    pixels = torch.cartesian_prod(torch.arange(SIZE[0]), torch.arange(SIZE[1])).double()
    distance = torch.cdist(pixels, at)
    values = hints.depth[hints.valid]
    tie = (distance - distance.min(1, keepdim=True).values) < 1e-9
    allowed = [values[row] for row in tie]
    assert all(bool((a == v).any()) for a, v in zip(answer.flatten(), allowed, strict=True))


def test_a_ramp_is_completed_and_the_points_own_pixels_are_in_or_out():
    data = Samples([sample("a"), sample("b")])
    ramp = VerticalRamp()
    counts = {}
    for measured in ("all", "without-points"):
        found = evaluate(ramp, data, protocol(Points(count=30, measured=measured)), name="ramp", batch_size=2)
        assert found.mean["abs_rel"] < 1e-3  # the ramp is the scene's disparity up to scale and shift
        counts[measured] = found.images[0].valid_pixels
    assert counts["all"] - counts["without-points"] == 30


def test_rows_by_distance_leave_out_images_without_such_pixels(tmp_path):
    data = Samples(
        [sample("a"), sample("b", valid=torch.zeros(1, *SIZE, dtype=torch.bool).index_fill_(2, torch.tensor([3]), True))]
    )
    rule = protocol(Points(count=40), metrics=("abs_rel", "abs_rel_0_to_2", "abs_rel_from_2"))
    found = evaluate(Completed(VerticalRamp(), Nearest()), data, rule, name="nearest", batch_size=1)
    values = {image.key: image.metrics for image in found.images}
    assert np.isnan(values["b"]["abs_rel_from_2"])  # its truth is one row, which is full of points
    assert found.mean["abs_rel_from_2"] == values["a"]["abs_rel_from_2"] > values["a"]["abs_rel_0_to_2"]
    assert not found.failed


def test_every_model_is_seen_beside_trivial_answers(tmp_path, monkeypatch):
    data = Samples([sample("a"), sample("b")])
    monkeypatch.setattr(EvaluationPlan, "open", lambda self: data)
    plan = EvaluationPlan(protocol(Points(count=30, noise=0.01)), "none")
    models = {"ramp + align": Completed(VerticalRamp(), Align())}
    rows = evaluate_run(plan, tmp_path, models, cache=tmp_path / "cache")
    assert [row.model for row in rows] == ["nearest point", "ramp + one factor", "ramp + global fit", "ramp + align"]
    mean = {row.model: row.mean["abs_rel"] for row in rows}
    assert mean["ramp + align"] < mean["nearest point"] < mean["ramp + one factor"]
    saved = json.loads((tmp_path / "evaluation.json").read_text())
    assert "1% noise" in saved["protocol_in_words"]["points"]
    assert (tmp_path / "evaluation.jpg").is_file()


def test_frames_move_points_and_camera():
    camera = torch.tensor([[518.0, 0, 320], [0, 518, 240], [0, 0, 1]])
    hints = Hints.from_points(torch.tensor([[320.0, 240, 2], [0, 0, 3]]), (480, 640))
    whole = Sample(
        torch.zeros(3, 480, 640, dtype=torch.uint8), "a", torch.ones(1, 480, 640), None, Space.METRIC, camera, hints=hints
    )
    small = cut_frame(whole, "nyu-304x228")
    assert small.image.shape == (3, 228, 304)
    assert small.depth.shape == (1, 228, 304)
    assert small.hints.valid.nonzero()[:, 2:].tolist() == [[114, 152]]
    assert small.intrinsics[:2, 2].tolist() == [152, 114]
    assert cut_frame(small, "nyu-304x228") is small
    street = Sample(torch.zeros(3, 352, 1216, dtype=torch.uint8), "a", torch.ones(1, 352, 1216), None, Space.METRIC)
    assert cut_frame(street, "kitti-top96").image.shape == (3, 256, 1216)


def test_a_protocol_with_points_is_in_metres():
    with pytest.raises(ValueError, match="space: metric"):
        Protocol(name="x", summary="", points=Points(), space="disparity")
    with pytest.raises(ValueError, match="no pattern"):
        Points(pattern="dots")
    assert load_protocol("rld-completion", "kitti-val").points.source == "dataset"


def test_kitti_completion_from_the_command_line(tmp_path, dadkit):
    root = tmp_path / "val_selection_cropped"
    depth = (1 / (0.05 + 0.1 * np.linspace(0, 1, 352)[:, None]) * np.ones((1, 1216)) * 256).astype(np.uint16)
    sweep = np.where(np.random.default_rng(0).random(depth.shape) < 0.02, depth, 0)
    for folder, kind, values in (("groundtruth_depth", "groundtruth_depth", depth), ("velodyne_raw", "velodyne_raw", sweep)):
        (root / folder).mkdir(parents=True)
        Image.fromarray(values).save(root / folder / f"drive_sync_{kind}_0000000005_image_02.png")
    (root / "image").mkdir()
    Image.fromarray(np.zeros((352, 1216, 3), np.uint8)).save(root / "image" / "drive_sync_image_0000000005_image_02.png")
    answer = dadkit(
        "evaluate", "--model", "starter/tiny", "--dataset", "kitti-val", "--root", str(root), "--protocol", "kitti-dc-top96",
        "--completer", "align", "--completer", "align:local=knn", "-o", str(tmp_path / "out"), "--no-report",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    saved = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert [row["model"] for row in saved["models"]] == [
        "nearest point",
        "starter/tiny + one factor",
        "starter/tiny + global fit",
        "starter/tiny + align",
        "starter/tiny + align:local=knn",
    ]
    assert saved["models"][0]["mean"]["abs_rel"] < 0.1
    refused = dadkit("evaluate", "--model", "starter/tiny", "--completer", "align", "-o", str(tmp_path / "other"))
    assert refused.code != 0
    assert "points" in refused.err
