"""Cameras with depth sensors."""

from __future__ import annotations

import numpy as np
import pytest

from dadkit.data.benchmarks.base import unrotated


def test_ddad(mini, tmp_path):
    mini.image(tmp_path / "000_rgb.png")
    sparse = mini.depth()
    sparse[::2] = 0
    mini.npy(tmp_path / "000_depth.npy", sparse)
    sample = mini.read("ddad", tmp_path)[0]
    mini.check(sample, sparse, atol=1e-6)
    assert sample.valid.sum() == mini.height * mini.width // 2


def test_ddad_as_bundled_for_completion(mini, tmp_path):
    base, points = tmp_path / "pregenerated" / "val", np.where(np.arange(20) % 5 == 0, mini.depth(), 0)
    mini.image(base / "rgb" / "0000000000.png")
    mini.png16(base / "gt" / "0000000000.png", mini.depth() * 256)
    mini.png16(base / "hints" / "0000000000.png", points * 256)
    mini.text(base / "intrinsics" / "0000000000.txt", "2181 0 928\n0 2181 615\n0 0 1\n")
    sample = mini.read("ddad", tmp_path)[0]
    mini.check(sample, mini.depth(), atol=2e-3)
    np.testing.assert_array_equal(sample.hints.valid[0, 0], points > 0)
    assert sample.intrinsics[:2, 2].tolist() == [928, 615]


def test_void(mini, tmp_path):
    base, points = tmp_path / "void_release" / "void_500", np.where(np.arange(20) % 7 == 0, mini.depth(), 0)
    folder = "void_500/data/office/{}"  # public lists begin above the folder
    for kind, values in (("sparse_depth", points), ("ground_truth", mini.depth())):
        mini.png16(base / "data" / "office" / kind / "1.png", values * 256)
        mini.text(base / f"test_{kind}.txt", f"{folder.format(kind)}/1.png\n")
    mini.image(base / "data" / "office" / "image" / "1.png")
    mini.text(base / "test_image.txt", f"{folder.format('image')}/1.png\n")
    mini.text(base / "data" / "office" / "K.txt", "514.6 0 320.5 0 515.1 240.5 0 0 1")
    mini.text(base / "test_intrinsics.txt", f"{folder.format('K.txt')}\n")
    sample = mini.read("void", tmp_path, density=500)[0]
    mini.check(sample, mini.depth(), atol=2e-3)
    np.testing.assert_allclose(sample.hints.depth[sample.hints.valid], points[points > 0], atol=2e-3)
    assert sample.intrinsics[0, 0] == pytest.approx(514.6)


def test_sunrgbd_bits_and_split(mini, tmp_path):
    io = pytest.importorskip("scipy.io")
    millimetres = (mini.depth() * 1000).round().astype(np.uint16)
    turned = (millimetres << 3) | (millimetres >> 13)
    np.testing.assert_array_equal(unrotated(turned), millimetres)
    for scene in ("kv1/NYUdata/NYU0001", "kv2/kinect2data/0002"):
        base = tmp_path / "SUNRGBD" / scene
        mini.image(base / "image" / "NYU0001.jpg")
        mini.png16(base / "depth_bfx" / "NYU0001.png", turned)
        mini.text(base / "intrinsics.txt", "518.8 0 284.5 0 519.4 208.7 0 0 1")
    cells = np.empty((1, 1), object)
    cells[0, 0] = "/n/fs/sun3d/data/SUNRGBD/kv2/kinect2data/0002/"
    toolbox = tmp_path / "SUNRGBDtoolbox" / "traintestSUNRGBD"
    toolbox.mkdir(parents=True)
    io.savemat(toolbox / "allsplit.mat", {"alltest": cells, "alltrain": cells})
    test = mini.read("sunrgbd", tmp_path, max_depth=7.0)
    assert [test.key(i) for i in range(len(test))] == ["SUNRGBD/kv2/kinect2data/0002"]
    mini.check(test[0], mini.depth(), atol=6e-4)
    assert test[0].valid.sum() == (millimetres <= 7000).sum()
    assert test[0].intrinsics[0, 2] == pytest.approx(284.5)
    assert len(mini.read("sunrgbd", tmp_path, split="all")) == 2


def test_sunrgbd_as_zoedepth_prepares_it(mini, tmp_path):
    mini.image(tmp_path / "rgb" / "rgb" / "1.jpg")
    mini.png16(tmp_path / "gt" / "gt" / "1.png", mini.depth() % 6 * 10000)
    mini.check(mini.read("sunrgbd", tmp_path)[0], mini.depth() % 6, atol=1e-4)
