"""Every reader on a miniature of the official layout, written here in the official encoding."""

from __future__ import annotations

import csv
import pickle
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.config.components import build
from dadkit.data.benchmarks.encodings import planar_from_distance, unrotated
from dadkit.data.ordinal import OrdinalSample
from dadkit.data.sample import Sample, SampleError
from dadkit.errors import DataError
from dadkit.plugin import Registry
from dadkit.spaces import Space
from dadkit.testing import Outcome, check_dataset

CORE = Registry(distributions=[])
H, W = 12, 20


def depth_of(seed: int = 0, height: int = H, width: int = W) -> np.ndarray:
    """Metres between 1 and 8."""
    return 1 + 7 * np.random.default_rng(seed).random((height, width))


def save_image(path: Path, height: int = H, width: int = W) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(str(path))).integers(0, 255, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, format="JPEG" if path.suffix.lower() == ".jpg" else "PNG")
    return path


def save_png16(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(values.round().astype(np.uint16)).save(path)


def save_npy(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def save_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def dataset(name: str, root: Path, **options):
    """The reader, which must keep the contract of datasets whatever a test is about (those of pairs of points have another)."""
    options = {"root": str(root), **options}
    found = build("dataset", name, options, registry=CORE)
    if name not in {"da-2k", "diw"} and is_readable(found):
        results = check_dataset(name, options, registry=CORE)
        failed = [f"{result.check}: {result.message}" for result in results if result.outcome is Outcome.FAILED]
        assert not failed, "\n".join(failed)
    return found


def is_readable(found) -> bool:
    """False where the test is about files that cannot be read."""
    try:
        return bool(found[0])
    except SampleError:
        return False


def check(sample: Sample, depth: np.ndarray, *, atol: float, space: Space = Space.METRIC) -> None:
    assert sample.space is space
    assert sample.image.dtype == torch.uint8
    assert sample.image.shape[1:] == sample.depth.shape[1:] == sample.valid.shape[1:]
    np.testing.assert_allclose(sample.depth[0][sample.valid[0]], depth[sample.valid[0].numpy()], atol=atol)


def test_nyu_with_marigolds_list(tmp_path):
    d = depth_of()
    d[0, 0] = 0
    for kind, values in (("depth", d), ("filled", np.where(d == 0, 2, d))):
        save_png16(tmp_path / "test" / "bathroom" / f"{kind}_0045.png", values * 1000)
    save_image(tmp_path / "test" / "bathroom" / "rgb_0045.png")
    line = " ".join(f"test/bathroom/{kind}_0045.png" for kind in ("rgb", "depth", "filled"))
    save_text(tmp_path / "filename_list_test.txt", line + "\n")
    raw = dataset("nyuv2", tmp_path)[0]
    check(raw, d, atol=6e-4)
    assert not raw.valid[0, 0, 0]
    assert raw.key == "test/bathroom/rgb_0045"
    assert dataset("nyuv2", tmp_path, depth="filled")[0].valid.all()
    (tmp_path / "filename_list_test.txt").unlink()
    assert len(dataset("nyuv2", tmp_path)) == 1  # found without a list


def test_nyu_with_bts_list_of_an_authors_disk(tmp_path):
    save_image(tmp_path / "official_splits" / "test" / "bathroom" / "rgb_00045.jpg")
    save_png16(tmp_path / "official_splits" / "test" / "bathroom" / "sync_depth_00045.png", depth_of() * 1000)
    line = "/mnt/disk/nyu/test/bathroom/rgb_00045.jpg /mnt/disk/nyu/test/bathroom/sync_depth_00045.png 518.8579\n"
    save_text(tmp_path / "list.txt", line)
    check(dataset("nyuv2", tmp_path, split_file=str(tmp_path / "list.txt"))[0], depth_of(), atol=6e-4)


def test_nyu_from_the_matlab_file(tmp_path):
    h5py, io = pytest.importorskip("h5py"), pytest.importorskip("scipy.io")
    raw = np.stack([depth_of(i, 480, 640) for i in range(3)])
    raw[:, 0, 0] = 0
    images = np.random.default_rng(0).integers(0, 255, (3, 3, 480, 640), dtype=np.uint8)
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        file["images"] = images.transpose(0, 1, 3, 2)  # MATLAB's order of axes
        file["rawDepths"] = raw.transpose(0, 2, 1).astype(np.float32)
        file["depths"] = (raw.transpose(0, 2, 1) + 1).astype(np.float32)
    io.savemat(tmp_path / "splits.mat", {"testNdxs": np.array([[1], [3]]), "trainNdxs": np.array([[2]])})
    test = dataset("nyuv2", tmp_path)
    assert len(test) == 2
    np.testing.assert_array_equal(test[1].image.numpy(), images[2])
    check(test[1], raw[2], atol=1e-6)
    assert test[1].intrinsics[0, 0] == pytest.approx(518.8579)
    assert not test[0].valid[0, 0, 0]
    check(dataset("nyuv2", tmp_path, split="train", depth="filled")[0], raw[1] + 1, atol=1e-6)


def test_kitti_eigen_leaves_out_images_without_depth(tmp_path):
    frames = [("2011_09_26_drive_0002_sync", "0000000069", "val"), ("2011_09_26_drive_0009_sync", "0000000001", "train")]
    lines = []
    for drive, number, part in frames:
        image = f"2011_09_26/{drive}/image_02/data/{number}.png"
        depth = f"{drive}/proj_depth/groundtruth/image_02/{number}.png"
        save_image(tmp_path / image)
        save_png16(tmp_path / part / depth, depth_of() * 256)
        lines.append(f"{image} {depth} 721.5377")
    lines.insert(1, "2011_09_26/2011_09_26_drive_0002_sync/image_02/data/0000000054.png None 721.5377")
    save_text(tmp_path / "eigen_test_files_with_gt.txt", "\n".join(lines))
    found = dataset("kitti-eigen", tmp_path)
    assert len(found) == 2
    check(found[1], depth_of(), atol=2e-3)


def test_kitti_val_selection(tmp_path):
    base = tmp_path / "depth_selection" / "val_selection_cropped"
    name = "2011_09_26_drive_0002_sync_{}_0000000005_image_02"
    save_image(base / "image" / (name.format("image") + ".png"))
    save_png16(base / "groundtruth_depth" / (name.format("groundtruth_depth") + ".png"), depth_of() * 256)
    save_text(base / "intrinsics" / (name.format("image") + ".txt"), "721.5 0 596.5 0 721.5 149.8 0 0 1")
    sample = dataset("kitti-val", tmp_path)[0]
    check(sample, depth_of(), atol=2e-3)
    assert sample.intrinsics[:2, 2].tolist() == pytest.approx([597.0, 150.3])


@pytest.mark.parametrize("layout", ["official", "marigold"])
def test_eth3d(tmp_path, layout):
    d = depth_of().astype("<f4")
    d[3, 4] = np.inf
    image, depth = "office/images/dslr_images/DSC_0219.JPG", "office/ground_truth_depth/dslr_images/DSC_0219.JPG"
    if layout == "marigold":
        image, depth = f"rgb/{image}", f"depth/office_dslr_depth/{depth}"
        save_text(tmp_path / "eth3d_filename_list.txt", f"{image} {depth}\n")
    save_image((tmp_path / image).with_suffix(".jpg")).rename(tmp_path / image)
    (tmp_path / depth).parent.mkdir(parents=True)
    (tmp_path / depth).write_bytes(d.tobytes())
    sample = dataset("eth3d", tmp_path)[0]
    check(sample, d, atol=0)
    assert sample.valid.sum() == H * W - 1
    (tmp_path / depth).write_bytes(d.tobytes()[:-4])
    with pytest.raises(SampleError, match="holds 956 bytes, where the image's 20 x 12 pixels need 960"):
        dataset("eth3d", tmp_path)[0]


def test_scannet(tmp_path):
    save_image(tmp_path / "scene0406_02" / "color" / "000300.jpg", 968, 1296)
    save_png16(tmp_path / "scene0406_02" / "depth" / "000300.png", depth_of(0, 480, 640) * 1000)
    save_text(tmp_path / "scannet_val_sampled_list_800_1.txt", "scene0406_02/color/000300.jpg scene0406_02/depth/000300.png\n")
    check(dataset("scannet", tmp_path)[0], depth_of(0, 480, 640), atol=6e-4)


def test_diode_parts_and_masks(tmp_path):
    for part, seed in (("indoors", 0), ("outdoor", 1), ("outdoor", 2)):
        stem = tmp_path / "val" / part / "scene_00021" / "scan_00189" / f"00021_00189_{part}_{seed}"
        save_image(stem.with_suffix(".png"))
        save_npy(stem.with_name(stem.name + "_depth.npy"), depth_of(seed)[..., None].astype(np.float32))
        mask = np.ones((H, W), np.float32)
        mask[0] = 0
        save_npy(stem.with_name(stem.name + "_depth_mask.npy"), mask)
    assert [len(dataset("diode", tmp_path, part=part)) for part in ("all", "indoor", "outdoor")] == [3, 1, 2]
    sample = dataset("diode", tmp_path, part="indoor")[0]
    check(sample, depth_of(0), atol=1e-6)
    assert sample.valid.sum() == (H - 1) * W
    name = "indoors/scene_00021/scan_00189/00021_00189_indoors_0"
    save_text(tmp_path / "list.txt", f"{name}.png {name}_depth.npy {name}_depth_mask.npy\n")
    assert len(dataset("diode", tmp_path, split_file="list.txt")) == 1


def test_ibims1(tmp_path):
    base = tmp_path / "ibims1_core_raw"
    save_text(base / "imagelist.txt", "corridor_01\n")
    save_image(base / "rgb" / "corridor_01.png")
    save_png16(base / "depth" / "corridor_01.png", depth_of() * 65535 / 50)
    mask = np.full((H, W), 255, np.uint8)
    for folder, row in (("mask_invalid", 0), ("mask_transp", 1)):
        own = mask.copy()
        own[row] = 0
        (base / folder).mkdir()
        Image.fromarray(own).save(base / folder / "corridor_01.png")
    save_text(base / "calib" / "corridor_01.txt", "500.1,501.2,320.0,240.0")
    sample = dataset("ibims1", tmp_path)[0]
    check(sample, depth_of(), atol=1e-3)
    assert sample.valid.sum() == (H - 2) * W
    assert sample.intrinsics[1, 1] == pytest.approx(501.2)


def test_sintel(tmp_path):
    save_image(tmp_path / "training" / "final" / "alley_1" / "frame_0001.png")
    save_image(tmp_path / "training" / "clean" / "alley_1" / "frame_0001.png")
    d = depth_of().astype("<f4")
    path = tmp_path / "training" / "depth" / "alley_1" / "frame_0001.dpt"
    path.parent.mkdir(parents=True)
    path.write_bytes(struct.pack("<fii", 202021.25, W, H) + d.tobytes())
    camera = tmp_path / "training" / "camdata_left" / "alley_1" / "frame_0001.cam"
    camera.parent.mkdir(parents=True)
    camera.write_bytes(struct.pack("<f9d12d", 202021.25, 1120, 0, 511.5, 0, 1120, 217.5, 0, 0, 1, *([0.0] * 12)))
    sample = dataset("sintel", tmp_path, render="clean")[0]
    check(sample, d, atol=0)
    assert sample.intrinsics[0].tolist() == [1120, 0, 512]
    path.write_bytes(b"PIEX" + path.read_bytes()[4:])
    with pytest.raises(SampleError, match="no Sintel depth file"):
        dataset("sintel", tmp_path)[0]


def test_ddad(tmp_path):
    save_image(tmp_path / "000_rgb.png")
    sparse = depth_of()
    sparse[::2] = 0
    save_npy(tmp_path / "000_depth.npy", sparse)
    sample = dataset("ddad", tmp_path)[0]
    check(sample, sparse, atol=1e-6)
    assert sample.valid.sum() == H * W // 2


def test_sunrgbd_bits_and_split(tmp_path):
    io = pytest.importorskip("scipy.io")
    millimetres = (depth_of() * 1000).round().astype(np.uint16)
    turned = (millimetres << 3) | (millimetres >> 13)
    np.testing.assert_array_equal(unrotated(turned), millimetres)
    for scene in ("kv1/NYUdata/NYU0001", "kv2/kinect2data/0002"):
        base = tmp_path / "SUNRGBD" / scene
        save_image(base / "image" / "NYU0001.jpg")
        save_png16(base / "depth_bfx" / "NYU0001.png", turned)
        save_text(base / "intrinsics.txt", "518.8 0 284.5 0 519.4 208.7 0 0 1")
    cells = np.empty((1, 1), object)
    cells[0, 0] = "/n/fs/sun3d/data/SUNRGBD/kv2/kinect2data/0002/"
    toolbox = tmp_path / "SUNRGBDtoolbox" / "traintestSUNRGBD"
    toolbox.mkdir(parents=True)
    io.savemat(toolbox / "allsplit.mat", {"alltest": cells, "alltrain": cells})
    test = dataset("sunrgbd", tmp_path, max_depth=7.0)
    assert [test.key(i) for i in range(len(test))] == ["SUNRGBD/kv2/kinect2data/0002"]
    check(test[0], depth_of(), atol=6e-4)
    assert test[0].valid.sum() == (millimetres <= 7000).sum()
    assert test[0].intrinsics[0, 2] == pytest.approx(284.5)
    assert len(dataset("sunrgbd", tmp_path, split="all")) == 2


def test_sunrgbd_as_zoedepth_prepares_it(tmp_path):
    save_image(tmp_path / "rgb" / "rgb" / "1.jpg")
    save_png16(tmp_path / "gt" / "gt" / "1.png", depth_of() % 6 * 10000)
    check(dataset("sunrgbd", tmp_path)[0], depth_of() % 6, atol=1e-4)


def test_hypersim_distances_become_planar(tmp_path):
    h5py = pytest.importorskip("h5py")
    height, width = 48, 64
    planar = depth_of(0, height, width)
    focal = 886.81 * width / 1024
    distance = np.empty_like(planar)
    for row in range(height):  # the length of the ray through each pixel's centre, one by one
        for column in range(width):
            x, y = (column + 0.5 - width / 2) / focal, (row + 0.5 - height / 2) / focal
            distance[row, column] = planar[row, column] * (x * x + y * y + 1) ** 0.5
    np.testing.assert_allclose(planar_from_distance(distance, focal), planar, rtol=1e-12)
    distance[0, 0] = np.nan
    base = tmp_path / "ai_001_001" / "images"
    save_image(base / "scene_cam_00_final_preview" / "frame.0003.tonemap.jpg", height, width)
    (base / "scene_cam_00_geometry_hdf5").mkdir()
    with h5py.File(base / "scene_cam_00_geometry_hdf5" / "frame.0003.depth_meters.hdf5", "w") as file:
        file["dataset"] = distance.astype(np.float16)
    sample = dataset("hypersim", tmp_path, split="all")[0]
    check(sample, planar, atol=1e-2)
    assert not sample.valid[0, 0, 0]
    with pytest.raises(DataError, match=r"metadata_images_split_scene_v1\.csv, which does not exist"):
        dataset("hypersim", tmp_path)
    fields = ["scene_name", "camera_name", "frame_id", "included_in_public_release", "exclude_reason", "split_partition_name"]
    with (tmp_path / "metadata_images_split_scene_v1.csv").open("w", newline="") as handle:
        writer = csv.DictWriter(handle, fields)
        writer.writeheader()
        for frame, included, split in (("3", "True", "test"), ("4", "False", "test"), ("5", "True", "train")):
            row = ["ai_001_001", "cam_00", frame, included, "", split]
            writer.writerow(dict(zip(fields, row, strict=True)))
    assert len(dataset("hypersim", tmp_path)) == 1


def test_hypersim_as_marigold_prepares_it(tmp_path):
    save_image(tmp_path / "ai_003_010" / "rgb_cam_00_fr0000.png")
    save_png16(tmp_path / "ai_003_010" / "depth_plane_cam_00_fr0000.png", depth_of() * 1000)
    save_text(tmp_path / "val.txt", "ai_003_010/rgb_cam_00_fr0000.png ai_003_010/depth_plane_cam_00_fr0000.png\n")
    check(dataset("hypersim", tmp_path, split_file="val.txt")[0], depth_of(), atol=6e-4)


@pytest.mark.parametrize("tree", ["one", "two"])
def test_vkitti2_sky_scenes_and_variations(tmp_path, tree):
    stored = depth_of() * 100
    stored[0, 0] = 65535
    for scene, variation in (("Scene01", "clone"), ("Scene20", "clone"), ("Scene20", "fog")):
        inner = f"{scene}/{variation}/frames"
        save_image(tmp_path / ("rgb" if tree == "two" else "") / inner / "rgb" / "Camera_0" / "rgb_00001.jpg")
        save_png16(tmp_path / ("depth" if tree == "two" else "") / inner / "depth" / "Camera_0" / "depth_00001.png", stored)
    assert len(dataset("vkitti2", tmp_path)) == 3
    found = dataset("vkitti2", tmp_path, scenes=["Scene20"], variations=["clone"])
    assert len(found) == 1
    sample = found[0]
    assert sample.depth[0, 0, 0] == torch.inf
    assert sample.valid.all()
    np.testing.assert_allclose(sample.depth[0, 1:], depth_of()[1:], atol=6e-3)
    assert not dataset("vkitti2", tmp_path, sky=False)[0].valid[0, 0, 0]


def test_da2k_points_are_swapped_at_random_and_stay_the_same(tmp_path):
    import json

    annotations = {}
    for number in range(40):
        name = f"images/{'indoor' if number % 2 else 'aerial'}/{number}.jpg"
        save_image(tmp_path / name)
        annotations[name] = [{"point1": [3, 4], "point2": [100, 7], "closer_point": "point1"}]
    (tmp_path / "annotations.json").write_text(json.dumps(annotations))
    found = dataset("da-2k", tmp_path)
    nearer = [int(found[i].nearer[0]) for i in range(40)]
    assert 8 < sum(nearer) < 32
    for index in range(40):
        sample = found[index]
        assert isinstance(sample, OrdinalSample)
        assert sample.points[0, nearer[index]].tolist() == [3, 4]
        assert sample.points[0, 1 - nearer[index]].tolist() == [H - 1, 7]  # moved into the image
    assert [int(dataset("da-2k", tmp_path)[i].nearer[0]) for i in range(40)] == nearer
    assert len(dataset("da-2k", tmp_path, scenes=["aerial"])) == 20


def test_diw_relations(tmp_path):
    for name in ("a", "b"):
        save_image((tmp_path / "DIW_test" / name).with_suffix(".png")).rename(tmp_path / "DIW_test" / f"{name}.thumb")
    text = "./DIW_test/a.thumb\n5,6,7,8,>,20,12\n./DIW_test/b.thumb\n5,6,7,8,<,20,12\n"
    save_text(tmp_path / "DIW_Annotations" / "DIW_test.csv", text)
    nearest = [sample.points[0, int(sample.nearer[0])].tolist() for sample in dataset("diw", tmp_path)]
    assert nearest == [[6, 7], [4, 5]]  # '>' = A is farther, so B is nearer; counted from 0
    swapped = [sample.points[0, int(sample.nearer[0])].tolist() for sample in dataset("diw", tmp_path, greater="nearer")]
    assert swapped == [[4, 5], [6, 7]]
    save_text(tmp_path / "DIW_Annotations" / "DIW_test.csv", "./DIW_test/a.thumb\n5,6,7,8,=,20,12\n")
    with pytest.raises(DataError, match="line 2: expected yA"):
        dataset("diw", tmp_path)


def test_blendedmvs(tmp_path):
    for scene in ("5a3ca9cb270f0e3f14d0eddb", "59817e4a1bd4b175e7038d19"):
        base = tmp_path / scene
        save_image(base / "blended_images" / "00000000.jpg")
        save_image(base / "blended_images" / "00000000_masked.jpg")
        d = depth_of().astype("<f4")
        d[0, 0] = 0
        (base / "rendered_depth_maps").mkdir()
        data = f"Pf\n{W} {H}\n-1\n".encode() + d[::-1].tobytes()
        (base / "rendered_depth_maps" / "00000000.pfm").write_bytes(data)
        text = "extrinsic\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n\nintrinsic\n600 0 383.5\n0 601 287.5\n0 0 1\n\n1 0.01 128 5\n"
        save_text(base / "cams" / "00000000_cam.txt", text)
    save_text(tmp_path / "training_list.txt", "5a3ca9cb270f0e3f14d0eddb\n")
    train = dataset("blendedmvs", tmp_path)
    assert len(train) == 1
    check(train[0], 1 / np.maximum(d, 1e-9), atol=1e-6, space=Space.DISPARITY)
    assert not train[0].valid[0, 0, 0]
    assert train[0].depth.isfinite().all()
    assert train[0].intrinsics[:2, 2].tolist() == [384, 288]
    assert len(dataset("blendedmvs", tmp_path, split="all")) == 2


def test_diml_indoor_and_outdoor(tmp_path):
    save_image(tmp_path / "indoor" / "HR" / "1. Warehouse" / "color" / "in_k_01_c.png")
    save_png16(tmp_path / "indoor" / "HR" / "1. Warehouse" / "depth_filled" / "in_k_01_depth_filled.png", depth_of(1) * 1000)
    save_image(tmp_path / "outdoor" / "A" / "outleft" / "01.png")
    save_png16(tmp_path / "outdoor" / "A" / "depthmap" / "01.png", depth_of(2) * 1000)
    assert len(dataset("diml", tmp_path)) == 2
    check(dataset("diml", tmp_path, part="indoor")[0], depth_of(1), atol=6e-4)
    check(dataset("diml", tmp_path, part="outdoor")[0], depth_of(2), atol=6e-4)


def test_hrwsi_sky_is_zero_and_valid(tmp_path):
    base = tmp_path / "train"
    save_image(base / "imgs" / "a.jpg")
    grey = np.random.default_rng(0).integers(1, 255, (H, W)).astype(np.uint8)
    grey[0] = 0
    mask = np.full((H, W), 255, np.uint8)
    mask[1] = 0
    for folder, values in (("gts", grey), ("valid_masks", mask)):
        (base / folder).mkdir()
        Image.fromarray(values).save(base / folder / "a.png")
    sample = dataset("hrwsi", tmp_path)[0]
    check(sample, grey, atol=0, space=Space.DISPARITY)
    assert sample.valid[0, 0].all()
    assert not sample.valid[0, 1].any()


def test_irs(tmp_path):
    exr = pytest.importorskip("OpenEXR")
    save_image(tmp_path / "Home" / "ArchVizInterior" / "l_1.png")
    disparity = depth_of().astype(np.float32) * 10
    path = tmp_path / "Home" / "ArchVizInterior" / "d_1.exr"
    exr.File({"compression": exr.ZIP_COMPRESSION}, {"Y": disparity}).write(str(path))
    check(dataset("irs", tmp_path)[0], disparity, atol=0, space=Space.DISPARITY)
    path.write_bytes(b"no exr")
    with pytest.raises(SampleError, match="cannot be read as EXR"):
        dataset("irs", tmp_path)[0]


def test_megadepth_skips_ordinal_labels(tmp_path):
    h5py = pytest.importorskip("h5py")
    base = tmp_path / "MegaDepth_v1" / "0000" / "dense0"
    ordinal = np.where(depth_of() > 4, -1.0, -2.0)
    for name, values in (("a", depth_of()), ("b", ordinal)):
        save_image(base / "imgs" / f"{name}.jpg")
        (base / "depths").mkdir(exist_ok=True)
        with h5py.File(base / "depths" / f"{name}.h5", "w") as file:
            file["depth"] = values.astype(np.float32)
    found = dataset("megadepth", tmp_path)
    check(found[0], 1 / depth_of(), atol=1e-6, space=Space.DISPARITY)
    with pytest.raises(SampleError, match="no pixel has a valid depth"):
        found[1]


def test_tartanair_far_is_sky(tmp_path):
    d = depth_of()
    d[0] = 10000
    for env in ("amusement", "office"):
        base = tmp_path / env / env / "Easy" / "P001"
        save_image(base / "image_left" / "000000_left.png")
        save_npy(base / "depth_left" / "000000_left_depth.npy", d.astype(np.float32))
    sample = dataset("tartanair", tmp_path, environments=["office"])[0]
    assert len(dataset("tartanair", tmp_path)) == 2
    assert sample.depth[0, 0].isinf().all()
    assert sample.valid.all()
    np.testing.assert_allclose(sample.depth[0, 1:], d[1:], rtol=1e-6)


PUBLIC = [c.name for c in CORE.components("dataset") if "benchmarks" in c.target]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_missing_and_an_empty_folder_say_what_was_looked_for_and_where_to_get_it(name, tmp_path):
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError) as error:
            dataset(name, root)
        assert str(tmp_path) in str(error.value)
        if root == tmp_path / "nowhere" or "split: " not in str(error.value):
            assert "http" in str(error.value)


def test_readers_survive_pickle(tmp_path):
    save_image(tmp_path / "000_rgb.png")
    save_npy(tmp_path / "000_depth.npy", depth_of())
    found = pickle.loads(pickle.dumps(dataset("ddad", tmp_path)))
    assert found[0].key == "000_rgb"


def test_images_and_depth_of_different_size_are_named(tmp_path):
    save_image(tmp_path / "000_rgb.png", 6, 5)
    save_npy(tmp_path / "000_depth.npy", depth_of())
    with pytest.raises(SampleError, match=r"000_depth\.npy is 20 x 12, but its image is 5 x 6"):
        dataset("ddad", tmp_path)[0]


def test_a_missing_package_is_named_with_its_extra(monkeypatch, tmp_path):
    import importlib

    real = importlib.import_module

    def without(name, *args):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"")
    load: Callable = dataset
    with pytest.raises(DataError, match=r"needs the package h5py: pip install 'dadkit\[datasets\]'"):
        load("nyuv2", tmp_path, split="all")
