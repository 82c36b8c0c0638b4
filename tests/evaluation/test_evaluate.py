"""Evaluation of whole datasets: means, skipped images, batches, files, the trivial rows."""

import csv
import json
from dataclasses import replace

import pytest
import torch

from dadkit.data import ProceduralScenes
from dadkit.data.sample import Sample
from dadkit.errors import DataError, SampleError
from dadkit.evaluation import EvaluationPlan, evaluate, load_protocol, write_results
from dadkit.evaluation.cache import RowCache
from dadkit.evaluation.run import MeanMap, VerticalRamp, evaluate_run
from dadkit.evaluation.strips import MIN_SIDE, strip, write_strips
from dadkit.interfaces import DepthModel, ModelSpec, camera_from_fov
from dadkit.report.page import scores_table
from dadkit.spaces import Space


class Scenes:
    """Twelve tilted planes of two image sizes; number 3 is unreadable, number 5 has no valid pixel."""

    def __init__(self, space: Space = Space.METRIC):
        self.space = space

    def __len__(self):
        return 12

    def __getitem__(self, index):
        if index == 3:
            raise SampleError("scene-3: truncated")
        height, width = (24, 32) if index < 8 else (20, 20)
        generator = torch.Generator().manual_seed(index)
        slope = torch.rand(1, generator=generator)
        rows = torch.linspace(1, 0.1, height).view(1, height, 1) + slope * torch.linspace(0, 1, width)
        image = (rows.expand(3, height, width) / 2 * 255).to(torch.uint8)
        valid = torch.full((1, height, width), index != 5)
        return Sample(image, f"scene-{index}", depth=rows * 10, valid=valid, space=self.space)


class Darker(DepthModel):
    """Brightness as depth: nearly right on these scenes."""

    def __init__(self):
        super().__init__()
        self.spec = ModelSpec(name="darker", space=Space.DEPTH, mean=(0, 0, 0), std=(1, 1, 1))

    def estimate(self, x):
        return x.mean(1, keepdim=True), {}


def test_means_are_over_images_and_do_not_depend_on_the_batch_size():
    protocol = load_protocol("affine-depth")
    one = evaluate(Darker(), Scenes(), protocol, name="a", batch_size=1)
    five = evaluate(Darker(), Scenes(), protocol, name="a", batch_size=5)
    assert [i.key for i in one.images] == [f"scene-{i}" for i in range(12) if i not in (3, 5)]
    assert one.skipped == five.skipped == ["scene-3: truncated", "scene-5: no pixel of true depth is valid"]
    assert one.mean == pytest.approx(five.mean, rel=1e-5)
    assert one.mean["abs_rel"] == pytest.approx(sum(i.metrics["abs_rel"] for i in one.images) / 10)
    assert one.mean["abs_rel"] < 0.05


def test_labels_that_are_not_metric_are_refused():
    with pytest.raises(DataError, match="space 'depth'"):
        evaluate(Darker(), Scenes(Space.DEPTH), load_protocol("affine-depth"), name="a")


def test_a_dataset_without_any_truth_is_an_error():
    class Blind(Scenes):
        def __len__(self):
            return 1

        def __getitem__(self, index):
            return super().__getitem__(5)

    with pytest.raises(DataError, match="none of 1 images"):
        evaluate(Darker(), Blind(), load_protocol("affine-depth"), name="a")


def test_results_are_written_with_their_protocol(tmp_path):
    protocol = load_protocol("affine-depth")
    evaluation = evaluate(Darker(), Scenes(), protocol, name="darker")
    write_results(tmp_path, [evaluation], protocol)
    summary = json.loads((tmp_path / "evaluation.json").read_text())
    assert summary["protocol"]["name"] == "affine-depth"
    assert summary["models"][0]["mean"] == evaluation.mean
    rows = list(csv.DictReader((tmp_path / "evaluation.csv").open()))
    assert len(rows) == 10
    assert {row["protocol"] for row in rows} == {"affine-depth"}
    assert float(rows[0]["abs_rel"]) == evaluation.images[0].metrics["abs_rel"]


class Metres(DepthModel):
    """Brightness as metres, which every protocol understands."""

    def __init__(self):
        super().__init__()
        self.spec = ModelSpec(name="metres", space=Space.METRIC)

    def estimate(self, x):
        return x.mean(1, keepdim=True) + 5, {}


def test_strips_are_drawn(tmp_path):
    protocol = load_protocol("affine-depth")
    evaluation = evaluate(Darker(), Scenes(), protocol, name="darker")
    write_strips(tmp_path / "evaluation.jpg", {"darker": Darker()}, [evaluation], Scenes(), protocol)
    assert (tmp_path / "evaluation.jpg").stat().st_size > 1000


def test_small_pictures_are_enlarged_in_strips():
    sample = Scenes()[0]
    row = strip(sample, {"darker": Darker()}, load_protocol("affine-depth"))
    side = min(sample.image.shape[1:])
    zoom = min(row[0].shape[:2]) // side
    assert zoom * side >= MIN_SIDE > (zoom - 1) * side
    assert (row[0][::zoom, ::zoom] == sample.image.permute(1, 2, 0).numpy()).all()
    assert {picture.shape for picture in row} == {row[0].shape}


def test_the_mean_map_beats_the_ramp_on_data_that_it_was_made_of():
    protocol = load_protocol("affine-disparity")
    mean = evaluate(MeanMap.of(Scenes()), Scenes(), protocol, name="mean map")
    ramp = evaluate(VerticalRamp(), Scenes(), protocol, name="ramp")
    assert mean.mean["abs_rel"] < ramp.mean["abs_rel"]


def test_the_ramp_grows_downwards():
    depth = VerticalRamp().predict(torch.zeros(3, 5, 4)).depth
    assert depth[0, 0, :, 0].tolist() == pytest.approx([0, 0.25, 0.5, 0.75, 1])
    assert VerticalRamp(Space.DEPTH).predict(torch.zeros(3, 5, 4)).depth[0, 0, :, 0].tolist() == pytest.approx(
        [1, 0.75, 0.5, 0.25, 0]
    )


@pytest.mark.parametrize(
    ("protocol", "rows"),
    [
        ("affine-disparity", ["vertical ramp", "mean map"]),
        ("affine-depth", ["vertical ramp", "mean map"]),
        ("metric", ["mean map"]),
    ],
)
def test_trivial_answers_speak_the_protocols_language(tmp_path, protocol, rows):
    plan = EvaluationPlan(load_protocol(protocol), "procedural", {"count": 3, "size": 24, "styles": ["room"]}, trivial=True)
    scenes = ProceduralScenes(count=8, size=24, styles=["room"], seed=1)
    found = evaluate_run(plan, tmp_path, {"student": Metres()}, training_data=scenes)
    assert [evaluation.model for evaluation in found] == ["student", *rows]
    assert found[-1].mean["abs_rel"] < 1.5


class Ruler(DepthModel):
    """Metres by the camera alone; with ``fov`` an unknown one is assumed."""

    def __init__(self, fov=None):
        super().__init__()
        self.fov = fov
        self.spec = ModelSpec(name="ruler", space=Space.METRIC, canonical_focal=50.0)

    def estimate(self, x):
        return x.mean(1, keepdim=True) + 5, {}


def test_every_row_says_where_the_camera_came_from(tmp_path):
    class Taken(Scenes):
        def __getitem__(self, index):
            sample = super().__getitem__(index)
            camera = camera_from_fov(60, sample.image.shape[-2:])
            if index < 4:
                return replace(sample, intrinsics=camera)
            return replace(sample, intrinsics=camera, camera_from="exif") if index < 7 else sample

    protocol = load_protocol("metric")
    with_option = evaluate(Ruler(fov=60), Taken(), protocol, name="ruler", cache=RowCache(tmp_path, "a"))
    assert [i.camera for i in with_option.images] == ["data"] * 3 + ["exif"] * 2 + ["fov"] * 5
    again = evaluate(Ruler(fov=60), Taken(), protocol, name="ruler", cache=RowCache(tmp_path, "a"))
    assert again == with_option
    assert evaluate(Metres(), Taken(), protocol, name="plain").cameras == {}
    write_results(tmp_path, [with_option], protocol)
    assert json.loads((tmp_path / "evaluation.json").read_text())["models"][0]["cameras"] == {"fov": 5, "data": 3, "exif": 2}
    assert next(csv.DictReader((tmp_path / "evaluation.csv").open()))["camera"] == "data"
    assert "cameras" in scores_table(json.loads((tmp_path / "evaluation.json").read_text())).headings
    # Without the option a picture whose camera is unknown is left out, with the reason.
    without = evaluate(Ruler(), Taken(), protocol, name="ruler", batch_size=3)
    assert without.cameras == {"data": 3, "exif": 2}
    assert without.skipped[-1].endswith(
        ": its camera is unknown, and the model has metres only with one, or with its option fov"
    )
    with pytest.raises(DataError, match="its camera is unknown"):
        evaluate(Ruler(), Scenes(), protocol, name="ruler")
