"""Rendered scenes."""

from __future__ import annotations

import csv
import struct

import numpy as np
import pytest
import torch

from dadkit.data.benchmarks.base import planar_from_distance
from dadkit.errors import DataError, SampleError


def test_sintel(mini, tmp_path):
    mini.image(tmp_path / "training" / "final" / "alley_1" / "frame_0001.png")
    mini.image(tmp_path / "training" / "clean" / "alley_1" / "frame_0001.png")
    d = mini.depth().astype("<f4")
    path = tmp_path / "training" / "depth" / "alley_1" / "frame_0001.dpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack("<fii", 202021.25, mini.width, mini.height) + d.tobytes())
    camera = tmp_path / "training" / "camdata_left" / "alley_1" / "frame_0001.cam"
    camera.parent.mkdir(parents=True)
    camera.write_bytes(struct.pack("<f9d12d", 202021.25, 1120, 0, 511.5, 0, 1120, 217.5, 0, 0, 1, *([0.0] * 12)))
    sample = mini.read("sintel", tmp_path, render="clean")[0]
    mini.check(sample, d, atol=0)
    assert sample.intrinsics[0].tolist() == [1120, 0, 512]
    path.write_bytes(b"PIEX" + path.read_bytes()[4:])
    with pytest.raises(SampleError, match="no Sintel depth file"):
        mini.read("sintel", tmp_path)[0]


def test_hypersim_distances_become_planar(mini, tmp_path):
    h5py = pytest.importorskip("h5py")
    height, width = 48, 64
    planar = mini.depth(0, height, width)
    focal = 886.81 * width / 1024
    distance = np.empty_like(planar)
    for row in range(height):  # the length of the ray through each pixel's centre, one by one
        for column in range(width):
            x, y = (column + 0.5 - width / 2) / focal, (row + 0.5 - height / 2) / focal
            distance[row, column] = planar[row, column] * (x * x + y * y + 1) ** 0.5
    np.testing.assert_allclose(planar_from_distance(distance, focal), planar, rtol=1e-12)
    distance[0, 0] = np.nan
    base = tmp_path / "ai_001_001" / "images"
    mini.image(base / "scene_cam_00_final_preview" / "frame.0003.tonemap.jpg", height, width)
    (base / "scene_cam_00_geometry_hdf5").mkdir()
    with h5py.File(base / "scene_cam_00_geometry_hdf5" / "frame.0003.depth_meters.hdf5", "w") as file:
        file["dataset"] = distance.astype(np.float16)
    sample = mini.read("hypersim", tmp_path, split="all")[0]
    mini.check(sample, planar, atol=1e-2)
    assert not sample.valid[0, 0, 0]
    with pytest.raises(DataError, match=r"metadata_images_split_scene_v1\.csv, which does not exist"):
        mini.read("hypersim", tmp_path)
    fields = ["scene_name", "camera_name", "frame_id", "included_in_public_release", "exclude_reason", "split_partition_name"]
    with (tmp_path / "metadata_images_split_scene_v1.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fields)
        writer.writeheader()
        for frame, included, split in (("3", "True", "test"), ("4", "False", "test"), ("5", "True", "train")):
            row = ["ai_001_001", "cam_00", frame, included, "", split]
            writer.writerow(dict(zip(fields, row, strict=True)))
    assert len(mini.read("hypersim", tmp_path)) == 1


def test_hypersim_as_marigold_prepares_it(mini, tmp_path):
    mini.image(tmp_path / "ai_003_010" / "rgb_cam_00_fr0000.png")
    mini.png16(tmp_path / "ai_003_010" / "depth_plane_cam_00_fr0000.png", mini.depth() * 1000)
    mini.text(tmp_path / "val.txt", "ai_003_010/rgb_cam_00_fr0000.png ai_003_010/depth_plane_cam_00_fr0000.png\n")
    mini.check(mini.read("hypersim", tmp_path, split_file="val.txt")[0], mini.depth(), atol=6e-4)


@pytest.mark.parametrize("tree", ["one", "two"])
def test_vkitti2_sky_scenes_and_variations(mini, tmp_path, tree):
    stored = mini.depth() * 100
    stored[0, 0] = 65535
    for scene, variation in (("Scene01", "clone"), ("Scene20", "clone"), ("Scene20", "fog")):
        inner = f"{scene}/{variation}/frames"
        mini.image(tmp_path / ("rgb" if tree == "two" else "") / inner / "rgb" / "Camera_0" / "rgb_00001.jpg")
        mini.png16(tmp_path / ("depth" if tree == "two" else "") / inner / "depth" / "Camera_0" / "depth_00001.png", stored)
    assert len(mini.read("vkitti2", tmp_path)) == 3
    found = mini.read("vkitti2", tmp_path, scenes=["Scene20"], variations=["clone"])
    assert len(found) == 1
    sample = found[0]
    assert sample.depth[0, 0, 0] == torch.inf
    assert sample.valid.all()
    np.testing.assert_allclose(sample.depth[0, 1:], mini.depth()[1:], atol=6e-3)
    assert not mini.read("vkitti2", tmp_path, sky=False)[0].valid[0, 0, 0]
