"""NYU Depth v2 and KITTI, as several papers prepare them."""

from __future__ import annotations

import numpy as np
import pytest

from dadkit.errors import DataError


def test_nyu_with_marigolds_list(mini, tmp_path):
    d = mini.depth()
    d[0, 0] = 0
    for kind, values in (("depth", d), ("filled", np.where(d == 0, 2, d))):
        mini.png16(tmp_path / "test" / "bathroom" / f"{kind}_0045.png", values * 1000)
    mini.image(tmp_path / "test" / "bathroom" / "rgb_0045.png")
    line = " ".join(f"test/bathroom/{kind}_0045.png" for kind in ("rgb", "depth", "filled"))
    mini.text(tmp_path / "filename_list_test.txt", line + "\n")
    raw = mini.read("nyuv2", tmp_path)[0]
    mini.check(raw, d, atol=6e-4)
    assert not raw.valid[0, 0, 0]
    assert raw.key == "test/bathroom/rgb_0045"
    assert mini.read("nyuv2", tmp_path, depth="filled")[0].valid.all()
    (tmp_path / "filename_list_test.txt").unlink()
    assert len(mini.read("nyuv2", tmp_path)) == 1  # found without a list


def test_nyu_with_bts_list_of_an_authors_disk(mini, tmp_path):
    mini.image(tmp_path / "official_splits" / "test" / "bathroom" / "rgb_00045.jpg")
    mini.png16(tmp_path / "official_splits" / "test" / "bathroom" / "sync_depth_00045.png", mini.depth() * 1000)
    line = "/mnt/disk/nyu/test/bathroom/rgb_00045.jpg /mnt/disk/nyu/test/bathroom/sync_depth_00045.png 518.8579\n"
    mini.text(tmp_path / "list.txt", line)
    mini.check(mini.read("nyuv2", tmp_path, split_file=str(tmp_path / "list.txt"))[0], mini.depth(), atol=6e-4)


def test_nyu_from_the_matlab_file(mini, tmp_path):
    h5py, io = pytest.importorskip("h5py"), pytest.importorskip("scipy.io")
    raw = np.stack([mini.depth(i, 480, 640) for i in range(3)])
    raw[:, 0, 0] = 0
    images = np.random.default_rng(0).integers(0, 255, (3, 3, 480, 640), dtype=np.uint8)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = images.transpose(0, 1, 3, 2)  # MATLAB's order of axes
        file["rawDepths"] = raw.transpose(0, 2, 1).astype(np.float32)
        file["depths"] = (raw.transpose(0, 2, 1) + 1).astype(np.float32)
    io.savemat(tmp_path / "splits.mat", {"testNdxs": np.array([[1], [3]]), "trainNdxs": np.array([[2]])})
    test = mini.read("nyuv2", tmp_path)
    assert len(test) == 2
    np.testing.assert_array_equal(test[1].image.numpy(), images[2])
    mini.check(test[1], raw[2], atol=1e-6)
    assert test[1].intrinsics[0, 0] == pytest.approx(518.8579)
    assert not test[0].valid[0, 0, 0]
    mini.check(mini.read("nyuv2", tmp_path, split="train", depth="filled")[0], raw[1] + 1, atol=1e-6)


def test_kitti_eigen_leaves_out_images_without_depth(mini, tmp_path):
    frames = [("2011_09_26_drive_0002_sync", "0000000069", "val"), ("2011_09_26_drive_0009_sync", "0000000001", "train")]
    lines = []
    for drive, number, part in frames:
        image = f"2011_09_26/{drive}/image_02/data/{number}.png"
        depth = f"{drive}/proj_depth/groundtruth/image_02/{number}.png"
        mini.image(tmp_path / image)
        mini.png16(tmp_path / part / depth, mini.depth() * 256)
        lines.append(f"{image} {depth} 721.5377")
    lines.insert(1, "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000054.png None 721.5377")
    mini.text(tmp_path / "eigen_test_files_with_gt.txt", "\n".join(lines))
    found = mini.read("kitti-eigen", tmp_path)
    assert len(found) == 2
    mini.check(found[1], mini.depth(), atol=2e-3)


def test_kitti_val_selection(mini, tmp_path):
    base = tmp_path / "depth_selection" / "val_selection_cropped"
    name = "2011_09_26_drive_0002_sync_{}_0000000005_image_02"
    mini.image(base / "image" / (name.format("image") + ".png"))
    mini.png16(base / "groundtruth_depth" / (name.format("groundtruth_depth") + ".png"), mini.depth() * 256)
    mini.text(base / "intrinsics" / (name.format("image") + ".txt"), "721.5 0 596.5 0 721.5 149.8 0 0 1")
    sample = mini.read("kitti-val", tmp_path)[0]
    mini.check(sample, mini.depth(), atol=2e-3)
    assert sample.intrinsics[:2, 2].tolist() == pytest.approx([597.0, 150.3])
    assert sample.hints is None
    sweep = mini.depth()
    sweep[::2] = 0
    mini.png16(base / "velodyne_raw" / (name.format("velodyne_raw") + ".png"), sweep * 256)
    hints = mini.read("kitti-val", tmp_path)[0].hints
    np.testing.assert_array_equal(hints.valid[0, 0], sweep > 0)
    np.testing.assert_allclose(hints.depth[hints.valid], sweep[sweep > 0], atol=2e-3)


def test_nyu_files_of_depth_completion(mini, tmp_path):
    h5py = pytest.importorskip("h5py")
    random = np.random.default_rng(0)
    images = random.integers(0, 255, (2, 228, 304, 3), dtype=np.uint8)
    truth = np.stack([mini.depth(k, 228, 304) for k in range(2)])[:, None]
    points = np.where(random.random(truth.shape) < 0.01, truth, 0)
    with h5py.File(tmp_path / "nyu_img_gt.h5", "w") as file:
        file["img"], file["gt"] = images, truth
    with h5py.File(tmp_path / "nyu_pred_with_500.h5", "w") as file:
        file["hints"] = points
    sample = mini.read("nyu-conti", tmp_path)[1]
    mini.check(sample, truth[1, 0], atol=1e-5)
    np.testing.assert_array_equal(sample.image.permute(1, 2, 0), images[1])
    np.testing.assert_allclose(sample.hints.depth[0, 0], points[1, 0], atol=1e-5)
    np.testing.assert_array_equal(sample.hints.valid[0, 0], points[1, 0] > 0)
    assert sample.intrinsics[0, 2] == pytest.approx(154.7912)
    with pytest.raises(DataError, match="nyu_pred_with_5"):
        mini.read("nyu-conti", tmp_path, points=5)


def test_nyu_files_of_sparse_to_dense(mini, tmp_path):
    h5py = pytest.importorskip("h5py")
    (tmp_path / "val" / "official").mkdir(parents=True)
    with h5py.File(tmp_path / "val" / "official" / "00001.h5", "w") as file:
        file["rgb"], file["depth"] = np.zeros((3, 12, 20), np.uint8), mini.depth().astype(np.float32)
    mini.check(mini.read("nyuv2", tmp_path, depth="filled")[0], mini.depth(), atol=1e-6)
