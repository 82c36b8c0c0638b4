"""Photographs with laser scans or meshes."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from dadkit.errors import SampleError


@pytest.mark.parametrize("layout", ["official", "marigold"])
def test_eth3d(mini, tmp_path, layout):
    d = mini.depth().astype("<f4")
    d[3, 4] = np.inf
    image, depth = "office/images/dslr_images/DSC_0219.JPG", "office/ground_truth_depth/dslr_images/DSC_0219.JPG"
    if layout == "marigold":
        image, depth = f"rgb/{image}", f"depth/office_dslr_depth/{depth}"
        mini.text(tmp_path / "eth3d_filename_list.txt", f"{image} {depth}\n")
    mini.image((tmp_path / image).with_suffix(".jpg")).rename(tmp_path / image)
    (tmp_path / depth).parent.mkdir(parents=True)
    (tmp_path / depth).write_bytes(d.tobytes())
    sample = mini.read("eth3d", tmp_path)[0]
    mini.check(sample, d, atol=0)
    assert sample.valid.sum() == mini.height * mini.width - 1
    (tmp_path / depth).write_bytes(d.tobytes()[:-4])
    with pytest.raises(SampleError, match="holds 956 bytes, where the image's 20 x 12 pixels need 960"):
        mini.read("eth3d", tmp_path)[0]


def test_scannet(mini, tmp_path):
    mini.image(tmp_path / "scene0406_02" / "color" / "000300.jpg", 968, 1296)
    mini.png16(tmp_path / "scene0406_02" / "depth" / "000300.png", mini.depth(0, 480, 640) * 1000)
    mini.text(tmp_path / "scannet_val_sampled_list_800_1.txt", "scene0406_02/color/000300.jpg scene0406_02/depth/000300.png\n")
    mini.check(mini.read("scannet", tmp_path)[0], mini.depth(0, 480, 640), atol=6e-4)


def test_diode_parts_and_masks(mini, tmp_path):
    for part, seed in (("indoors", 0), ("outdoor", 1), ("outdoor", 2)):
        stem = tmp_path / "val" / part / "scene_00021" / "scan_00189" / f"00021_00189_{part}_{seed}"
        mini.image(stem.with_suffix(".png"))
        mini.npy(stem.with_name(stem.name + "_depth.npy"), mini.depth(seed)[..., None].astype(np.float32))
        mask = np.ones((mini.height, mini.width), np.float32)
        mask[0] = 0
        mini.npy(stem.with_name(stem.name + "_depth_mask.npy"), mask)
    assert [len(mini.read("diode", tmp_path, part=part)) for part in ("all", "indoor", "outdoor")] == [3, 1, 2]
    sample = mini.read("diode", tmp_path, part="indoor")[0]
    mini.check(sample, mini.depth(0), atol=1e-6)
    assert sample.valid.sum() == (mini.height - 1) * mini.width
    name = "indoors/scene_00021/scan_00189/00021_00189_indoors_0"
    mini.text(tmp_path / "list.txt", f"{name}.png {name}_depth.npy {name}_depth_mask.npy\n")
    assert len(mini.read("diode", tmp_path, split_file="list.txt")) == 1


def test_ibims1(mini, tmp_path):
    base = tmp_path / "ibims1_core_raw"
    mini.text(base / "imagelist.txt", "corridor_01\n")
    mini.image(base / "rgb" / "corridor_01.png")
    mini.png16(base / "depth" / "corridor_01.png", mini.depth() * 65535 / 50)
    mask = np.full((mini.height, mini.width), 255, np.uint8)
    for folder, row in (("mask_invalid", 0), ("mask_transp", 1)):
        own = mask.copy()
        own[row] = 0
        (base / folder).mkdir()
        Image.fromarray(own).save(base / folder / "corridor_01.png")
    mini.text(base / "calib" / "corridor_01.txt", "500.1,501.2,320.0,240.0")
    sample = mini.read("ibims1", tmp_path)[0]
    mini.check(sample, mini.depth(), atol=1e-3)
    assert sample.valid.sum() == (mini.height - 2) * mini.width
    assert sample.intrinsics[1, 1] == pytest.approx(501.2)
