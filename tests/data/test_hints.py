"""Sparse metres from files."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data.hints import find_hints, implausible, read_hints
from dadkit.errors import DataError
from dadkit.interfaces import Hints

SIZE = (40, 60)


def test_points_move_by_coordinates_and_the_nearest_wins():
    listed = torch.tensor([[10.0, 5.0, 4.0], [10.2, 5.1, 2.0], [59.4, 39.4, 3.0], [70.0, 5.0, 1.0], [3.0, 3.0, -1.0]])
    hints = Hints.from_points(listed, SIZE)
    assert sorted(hints.depth[hints.valid].tolist()) == [2.0, 3.0]
    double = hints.at_size((80, 120))
    assert sorted(double.depth[double.valid].tolist()) == [2.0, 3.0]
    assert double.at_size(SIZE).valid.equal(hints.valid)


def test_what_the_sensor_sees_past_an_edge_is_left_out():
    listed = torch.tensor([[10.0, 10.0, 2.0], [12.0, 10.0, 9.0], [30.0, 10.0, 9.0]])
    hints = Hints.from_points(listed, SIZE, see_through=1.5)
    assert hints.valid[0, 0, 10].nonzero()[:, 0].tolist() == [10, 30]


def test_files(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,metres\n10,5,2.5\n20,6,3\n")
    (tmp_path / "b.txt").write_text("# tape\n10 5 2500\n20 6 3000\n")
    stored = np.zeros(SIZE, np.uint16)
    stored[5, 10], stored[6, 20] = 2500, 3000
    Image.fromarray(stored).save(tmp_path / "c.png")
    floats = np.full(SIZE, np.nan, np.float32)
    floats[5, 10], floats[6, 20] = 2.5, 3.25
    np.save(tmp_path / "d.npy", floats)
    for name, scale, far in (("a.csv", None, 3), ("b.txt", 0.001, 3), ("c.png", 0.001, 3), ("d.npy", None, 3.25)):
        hints = read_hints(tmp_path / name, SIZE, scale=scale)
        assert hints.valid[0, 0].nonzero().tolist() == [[5, 10], [6, 20]], name
        assert hints.depth[hints.valid].tolist() == pytest.approx([2.5, far], rel=1e-6)
    with pytest.raises(DataError, match="unit is unknown"):
        read_hints(tmp_path / "c.png", SIZE)
    assert "millimetres" in (implausible(read_hints(tmp_path / "c.png", SIZE, scale=1.0)) or "")
    (tmp_path / "e.csv").write_text("10,5,2\n10,nearly,3\n")
    with pytest.raises(DataError, match=r"e\.csv: line 2"):
        read_hints(tmp_path / "e.csv", SIZE)


def test_a_phones_small_map_becomes_points_at_its_pixels_centres(tmp_path):
    np.save(tmp_path / "small.npy", np.full((4, 6), 1.5, np.float32))
    hints = read_hints(tmp_path / "small.npy", SIZE)
    assert int(hints.valid.sum()) == 24
    assert hints.valid[0, 0].nonzero()[0].tolist() == [4, 4]


def test_files_are_found_by_the_pictures_names(tmp_path):
    (tmp_path / "one.csv").write_text("1,1,1\n")
    stems = [Path("one"), Path("two")]
    assert find_hints(tmp_path, stems[:1]) == {stems[0]: tmp_path / "one.csv"}
    with pytest.raises(DataError, match="no file of points named two"):
        find_hints(tmp_path, stems)
    with pytest.raises(DataError, match="one file, but there are 2 pictures"):
        find_hints(tmp_path / "one.csv", stems)


def test_points_in_space_are_seen_through_the_camera_of_the_json_beside_them(tmp_path):
    points = np.array([[0.0, 0, 4], [0, 0, 2], [0.3, -0.1, 2], [0, 0, -1]])
    away = np.array([1.0, 2, 3])  # where the camera is in the world of the second file
    body = points.tolist()
    head = "ply\nformat {}\nelement vertex 4\nproperty {t} x\nproperty {t} y\nproperty {t} z\nproperty uchar red\nend_header\n"
    (tmp_path / "a.ply").write_text(
        head.format("ascii 1.0", t="float") + "\n".join(" ".join(map(str, [*row, 7])) for row in body) + "\n"
    )
    kinds = np.dtype([("x", ">f8"), ("y", ">f8"), ("z", ">f8"), ("red", "u1")])
    stored = np.array([(*row, 7) for row in points + away], kinds)
    (tmp_path / "b.ply").write_bytes(head.format("binary_big_endian 1.0", t="double").encode() + stored.tobytes())
    camera = {"fx": 100, "fy": 100, "cx": 32, "cy": 24}
    pose = np.eye(4)
    pose[:3, 3] = -away
    with pytest.raises(DataError, match="need the camera"):
        read_hints(tmp_path / "a.ply", (48, 64))
    (tmp_path / "a.json").write_text(json.dumps(camera))
    (tmp_path / "b.json").write_text(json.dumps({**camera, "pose": pose.tolist()}))
    for name in ("a", "b"):
        hints = read_hints(tmp_path / f"{name}.ply", (48, 64))
        assert hints.valid[0, 0].nonzero().tolist() == [[18, 46], [24, 32]]  # 0.3 m right and 0.1 m up at 2 m; the middle
        assert hints.depth[0, 0, 24, 32] == 2  # the nearer one
    (tmp_path / "b.ply").write_bytes((tmp_path / "b.ply").read_bytes()[:-20])
    with pytest.raises(DataError, match="cut short"):
        read_hints(tmp_path / "b.ply", (48, 64))
