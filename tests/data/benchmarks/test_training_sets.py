"""Datasets that labels are learnt from."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dadkit.errors import SampleError
from dadkit.spaces import Space


def test_blendedmvs(mini, tmp_path):
    for scene in ("5a3ca9cb270f0e3f14d0eddb", "59817e4a1bd4b175e7038d19"):
        base = tmp_path / scene
        mini.image(base / "blended_images" / "00000000.jpg")
        mini.image(base / "blended_images" / "00000000_masked.jpg")
        d = mini.depth().astype("<f4")
        d[0, 0] = 0
        (base / "rendered_depth_maps").mkdir()
        data = f"Pf\n{mini.width} {mini.height}\n-1\n".encode() + d[::-1].tobytes()
        (base / "rendered_depth_maps" / "00000000.pfm").write_bytes(data)
        text = "extrinsic\n1 0 0 0\n0 1 0 0\n0 0 1 0\n0 0 0 1\n\nintrinsic\n600 0 383.5\n0 601 287.5\n0 0 1\n\n1 0.01 128 5\n"
        mini.text(base / "cams" / "00000000_cam.txt", text)
    mini.text(tmp_path / "training_list.txt", "5a3ca9cb270f0e3f14d0eddb\n")
    train = mini.read("blendedmvs", tmp_path)
    assert len(train) == 1
    mini.check(train[0], 1 / np.maximum(d, 1e-9), atol=1e-6, space=Space.DISPARITY)
    assert not train[0].valid[0, 0, 0]
    assert train[0].depth.isfinite().all()
    assert train[0].intrinsics[:2, 2].tolist() == [384, 288]
    assert len(mini.read("blendedmvs", tmp_path, split="all")) == 2


def test_diml_indoor_and_outdoor(mini, tmp_path):
    mini.image(tmp_path / "indoor" / "HR" / "1. Warehouse" / "color" / "in_k_01_c.png")
    mini.png16(tmp_path / "indoor" / "HR" / "1. Warehouse" / "depth_filled" / "in_k_01_depth_filled.png", mini.depth(1) * 1000)
    mini.image(tmp_path / "outdoor" / "A" / "outleft" / "01.png")
    mini.png16(tmp_path / "outdoor" / "A" / "depthmap" / "01.png", mini.depth(2) * 1000)
    assert len(mini.read("diml", tmp_path)) == 2
    mini.check(mini.read("diml", tmp_path, part="indoor")[0], mini.depth(1), atol=6e-4)
    mini.check(mini.read("diml", tmp_path, part="outdoor")[0], mini.depth(2), atol=6e-4)


def test_hrwsi_sky_is_zero_and_valid(mini, tmp_path):
    base = tmp_path / "train"
    mini.image(base / "imgs" / "a.jpg")
    grey = np.random.default_rng(0).integers(1, 255, (mini.height, mini.width)).astype(np.uint8)
    grey[0] = 0
    mask = np.full((mini.height, mini.width), 255, np.uint8)
    mask[1] = 0
    for folder, values in (("gts", grey), ("valid_masks", mask)):
        (base / folder).mkdir()
        Image.fromarray(values).save(base / folder / "a.png")
    sample = mini.read("hrwsi", tmp_path)[0]
    mini.check(sample, grey, atol=0, space=Space.DISPARITY)
    assert sample.valid[0, 0].all()
    assert not sample.valid[0, 1].any()


def test_irs(mini, tmp_path):
    exr = pytest.importorskip("OpenEXR")
    mini.image(tmp_path / "Home" / "ArchVizInterior" / "l_1.png")
    disparity = mini.depth().astype(np.float32) * 10
    path = tmp_path / "Home" / "ArchVizInterior" / "d_1.exr"
    exr.File({"compression": exr.ZIP_COMPRESSION}, {"Y": disparity}).write(str(path))
    mini.check(mini.read("irs", tmp_path)[0], disparity, atol=0, space=Space.DISPARITY)
    path.write_bytes(b"no exr")
    with pytest.raises(SampleError, match="cannot be read as EXR"):
        mini.read("irs", tmp_path)[0]


def test_megadepth_skips_ordinal_labels(mini, tmp_path):
    h5py = pytest.importorskip("h5py")
    base = tmp_path / "MegaDepth_v1" / "0000" / "dense0"
    ordinal = np.where(mini.depth() > 4, -1.0, -2.0)
    for name, values in (("a", mini.depth()), ("b", ordinal)):
        mini.image(base / "imgs" / f"{name}.jpg")
        (base / "depths").mkdir(exist_ok=True)
        with h5py.File(base / "depths" / f"{name}.h5", "w") as file:
            file["depth"] = values.astype(np.float32)
    found = mini.read("megadepth", tmp_path)
    mini.check(found[0], 1 / mini.depth(), atol=1e-6, space=Space.DISPARITY)
    with pytest.raises(SampleError, match="no pixel has a valid depth"):
        found[1]


def test_tartanair_far_is_sky(mini, tmp_path):
    d = mini.depth()
    d[0] = 10000
    for env in ("amusement", "office"):
        base = tmp_path / env / env / "Easy" / "P001"
        mini.image(base / "image_left" / "000000_left.png")
        mini.npy(base / "depth_left" / "000000_left_depth.npy", d.astype(np.float32))
    sample = mini.read("tartanair", tmp_path, environments=["office"])[0]
    assert len(mini.read("tartanair", tmp_path)) == 2
    assert sample.depth[0, 0].isinf().all()
    assert sample.valid.all()
    np.testing.assert_allclose(sample.depth[0, 1:], d[1:], rtol=1e-6)
