"""Labels as people have them: units that cannot lie, sizes that differ, lists of the field."""

import numpy as np
import pytest
import torch
from PIL import Image

from dadkit.data import DepthPairs
from dadkit.errors import DataError
from dadkit.prediction import write_prediction
from dadkit.spaces import Space


@pytest.fixture
def pair(tmp_path):
    """Writes ``name``'s image of 60 x 40 pixels and what ``save`` writes as its depth."""

    def make(save, name="a", size=(60, 40)):
        (tmp_path / "images").mkdir(exist_ok=True)
        (tmp_path / "depth").mkdir(exist_ok=True)
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(tmp_path / "images" / f"{name}.png")
        save(tmp_path / "depth" / name)
        return tmp_path

    return make


def test_21_whole_numbers_in_metres_need_a_scale(pair):
    root = pair(lambda path: np.save(path.with_suffix(".npy"), np.full((40, 60), 2900, np.int32)))
    with pytest.raises(DataError, match="whole numbers up to 2900"):
        DepthPairs(root, encoding="npy", space="metric")
    assert float(DepthPairs(root, encoding="npy", space="metric", scale=0.001)[0].depth.mean()) == pytest.approx(2.9)
    with pytest.warns(UserWarning, match="2900 m: is scale missing"):
        DepthPairs(root, encoding="npy", space="metric", scale=1)


def test_23_zero_may_be_the_farthest_of_a_disparity(pair):
    ramp = np.tile(np.linspace(0, 255, 60).astype(np.uint8), (40, 1))
    root = pair(lambda path: Image.fromarray(ramp).save(path.with_suffix(".png")))
    unknown = DepthPairs(root, encoding="png8", space="disparity")[0]
    far = DepthPairs(root, encoding="png8", space="disparity", zero="far")[0]
    assert not bool(unknown.valid[0, :, 0].any())
    assert bool(far.valid.all())
    with pytest.raises(DataError, match="no depth"):
        DepthPairs(root, encoding="png8", space="metric", scale=0.1, zero="far")


def test_24_a_result_of_dadkit_carries_its_range_and_space(pair):
    values = torch.linspace(5.2, 5.3, 2400).view(1, 40, 60)
    image = torch.zeros(3, 40, 60, dtype=torch.uint8)
    about = {"space": Space.METRIC, "valid": None, "formats": ["png16"], "model": "m"}
    root = pair(lambda path: write_prediction(path, image, values, **about))
    sample = DepthPairs(root, encoding="png16", space="metric")[0]
    torch.testing.assert_close(sample.depth, values, rtol=1e-5, atol=0)
    with pytest.raises(DataError, match="carries its own range"):
        DepthPairs(root, encoding="png16", space="metric", scale=0.001)
    with pytest.raises(DataError, match="in space 'metric'"):
        DepthPairs(root, encoding="png16", space="disparity")


def test_carla_stores_24_bits_in_colours(pair):
    metres = np.tile(np.linspace(1, 900, 60), (40, 1))
    stored = np.round(metres / 1000 * (2**24 - 1)).astype(int)
    colours = np.stack([stored & 255, (stored >> 8) & 255, stored >> 16], -1).astype(np.uint8)
    root = pair(lambda path: Image.fromarray(colours).save(path.with_suffix(".png")))
    with pytest.warns(UserWarning, match="median depth"):
        dataset = DepthPairs(root, encoding="carla24", space="metric", scale=1000)
    np.testing.assert_allclose(dataset[0].depth[0].numpy(), metres, rtol=1e-4)


def test_20_depth_of_another_size_is_placed_once(pair):
    small = np.arange(1, 7, dtype=np.float32).reshape(2, 3) / 2 + 0.25
    root = pair(lambda path: np.save(path.with_suffix(".npy"), small))
    with pytest.raises(Exception, match="resize: nearest"):
        DepthPairs(root, encoding="npy", space="metric")[0]
    sample = DepthPairs(root, encoding="npy", space="metric", resize="nearest")[0]
    assert sorted(sample.depth[sample.valid].tolist()) == small.flatten().tolist()
    assert bool(sample.valid[0, 10, 10])
    assert bool(sample.valid[0, 30, 50])


def test_29_lists_of_the_field(pair):
    for name in ("a", "b"):
        root = pair(lambda path: np.save(path.with_suffix(".npy"), np.full((40, 60), 1.5, np.float32)), name)
    (root / "bts.txt").write_text("images/a.png depth/a.npy 721.5\nimages/b.png None 721.5\n")
    with pytest.warns(UserWarning, match="1 lines without depth"):
        dataset = DepthPairs(root / "bts.txt", encoding="npy", space="metric")
    assert [dataset.key(i) for i in range(len(dataset))] == ["images/a"]


def test_30_missing_depth_can_be_skipped_and_counted(pair):
    for name in ("a", "b"):
        root = pair(lambda path: np.save(path.with_suffix(".npy"), np.full((40, 60), 1.5, np.float32)), name)
    (root / "depth" / "b.npy").unlink()
    with pytest.raises(DataError, match="missing: skip"):
        DepthPairs(root, encoding="npy", space="metric")
    with pytest.warns(UserWarning, match="1 of 2 images have no depth"):
        assert len(DepthPairs(root, encoding="npy", space="metric", missing="skip")) == 1
