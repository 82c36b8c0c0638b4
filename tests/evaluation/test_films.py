"""Numbers of films, on scenes whose motion is known."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data.sample import Sample
from dadkit.errors import DataError
from dadkit.evaluation.films import evaluate_films, read_pose
from dadkit.interfaces import DepthModel, ModelSpec
from dadkit.spaces import Space

SIZE, FAR = (24, 32), 10.0
CAMERA = torch.tensor([[40.0, 0, 16], [0, 40.0, 12], [0, 0, 1]])


class Reads(DepthModel):
    """Answers what the picture says: its depth as a share of 10 m, times a factor that the blue channel holds."""

    def __init__(self, space: Space = Space.METRIC) -> None:
        super().__init__()
        self.spec = ModelSpec(name="reads", space=space, mean=(0, 0, 0), std=(1, 1, 1))

    def estimate(self, x):
        depth = FAR * x[:, :1] * (1 + x[:, 2:] - 0.5)
        return (1 / depth if self.spec.space is Space.DISPARITY else depth), {}


class Film(list):
    """A camera that walks 10 cm a frame towards a wall, frames keyed film/0 …; ``flicker``: the model's factors."""

    def __init__(self, flicker, step=0.1, film="film"):
        self.poses = {}
        for k, factor in enumerate(flicker):
            depth = torch.full((1, *SIZE), 5.0 - step * k)
            image = torch.stack([depth[0] / FAR, torch.zeros(SIZE), torch.full(SIZE, factor - 0.5)])
            key = f"{film}/{k}"
            # Floats in place of bytes: the model reads the very depth.
            self.append(Sample(image * 255, key, depth, None, Space.METRIC, CAMERA))
            self.poses[key] = torch.eye(4, dtype=torch.float64)
            self.poses[key][2, 3] = step * k

    def key(self, index):
        return self[index].key


def measure(film, model=None):
    (score,) = evaluate_films(model or Reads(), film, poses=film.poses.get, batch_size=2)
    return score.metrics


@pytest.mark.parametrize("space", [Space.METRIC, Space.SCALE, Space.DEPTH, Space.DISPARITY])
def test_the_truth_is_steady(space):
    metrics = measure(Film([1.0] * 4), Reads(space))
    assert metrics["abs_rel"] == pytest.approx(0, abs=1e-5)
    assert metrics["scale_spread"] == pytest.approx(0, abs=1e-5)
    assert metrics["tcc"] == pytest.approx(1, abs=1e-4)
    assert metrics["tae"] == pytest.approx(0, abs=1e-3)


def test_flicker_of_the_scale_is_measured_and_not_aligned_away():
    up, down = 1.1, 0.9
    metrics = measure(Film([up, down, up, down]))
    assert metrics["scale_spread"] == pytest.approx((math.log(up) - math.log(down)) / 2, rel=1e-4)
    # A frame at 1.1 times its depth lands at 1.1 d - 0.1 in the next one, which says 0.9 (d - 0.1).
    expected = []
    for k, (a, b) in enumerate([(up, down), (down, up), (up, down)]):
        d, e = 5 - 0.1 * k, 4.9 - 0.1 * k
        expected += [abs(b * e - (a * d - 0.1)) / (b * e), abs(a * d - (b * e + 0.1)) / (a * d)]
    assert metrics["tae"] == pytest.approx(100 * sum(expected) / len(expected), rel=1e-3)
    assert measure(Film([1.0] * 4))["tae"] < metrics["tae"] / 10
    assert metrics["tcc"] < 0.999


def test_without_poses_what_needs_them_is_left_out():
    film = Film([1.0, 1.1, 1.0])
    (score,) = evaluate_films(Reads(), film)
    assert set(score.metrics) == {"abs_rel", "scale_spread", "tcc"}


def test_films_are_told_apart_by_folder_and_single_frames_left_out():
    film = Film([1.0, 1.0], film="a")
    film += Film([1.0], film="b")
    film += Film([1.0, 1.2, 1.0], film="c")
    assert [(s.film, s.frames) for s in evaluate_films(Reads(), film)] == [("a", 2), ("c", 3)]
    with pytest.raises(DataError, match="two samples in a row"):
        evaluate_films(Reads(), Film([1.0]))


def test_a_pose_that_is_none_says_where(tmp_path):
    assert read_pose(tmp_path / "missing.txt") is None
    (tmp_path / "short.txt").write_text("1 2 3")
    with pytest.raises(DataError, match=r"short\.txt needs 16 numbers"):
        read_pose(tmp_path / "short.txt")


def test_the_command(tmp_path, dadkit):
    root = tmp_path / "kitchen"
    root.mkdir()
    rng = np.random.default_rng(0)
    for k in range(3):
        Image.fromarray(rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)).save(root / f"{k}.png")
        Image.fromarray(rng.integers(1000, 4000, SIZE).astype(np.uint16)).save(root / f"{k}_depth.png")
        np.savetxt(root / f"{k}_pose.txt", np.eye(4))
    (root / "camera.txt").write_text("40 40 16 12")
    data = [f"root={root}", "images=.", "depths=.", "depth_suffix=_depth", "encoding=png16", "scale=0.001", "space=metric"]
    options = ["--films", "--poses", "{key}_pose.txt", "-o", tmp_path / "out"]
    done = dadkit("evaluate", "-m", "topformer/tiny", "-d", "pairs", *data, "intrinsics=camera.txt", *options)
    assert done.code == 0, done.err
    assert "scale_spread" in done.out
    found = json.loads((tmp_path / "out" / "films.json").read_text())
    (film,) = found["models"]["topformer/tiny"]
    assert film["frames"] == 3
    assert {"tae", "opw", "tcc"} <= set(film)
