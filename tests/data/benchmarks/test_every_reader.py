"""What holds of every reader."""

from __future__ import annotations

import importlib
import pickle

import pytest

from dadkit.errors import DataError, SampleError
from dadkit.plugin import Registry

PUBLIC = [c.name for c in Registry(distributions=[]).components("dataset") if "benchmarks" in c.target]


@pytest.mark.parametrize("name", PUBLIC)
def test_a_missing_and_an_empty_folder_say_what_was_looked_for_and_where_to_get_it(mini, name, tmp_path):
    for root in (tmp_path / "nowhere", tmp_path):
        with pytest.raises(DataError) as error:
            mini.read(name, root)
        assert str(tmp_path) in str(error.value)
        if root == tmp_path / "nowhere" or "split: " not in str(error.value):
            assert "http" in str(error.value)


def test_readers_survive_pickle(mini, tmp_path):
    mini.image(tmp_path / "000_rgb.png")
    mini.npy(tmp_path / "000_depth.npy", mini.depth())
    found = pickle.loads(pickle.dumps(mini.read("ddad", tmp_path)))
    assert found[0].key == "000_rgb"


def test_images_and_depth_of_different_size_are_named(mini, tmp_path):
    mini.image(tmp_path / "000_rgb.png", 6, 5)
    mini.npy(tmp_path / "000_depth.npy", mini.depth())
    with pytest.raises(SampleError, match=r"000_depth\.npy is 20 x 12, but its image is 5 x 6"):
        mini.read("ddad", tmp_path)[0]


def test_a_missing_package_is_named_with_its_extra(mini, monkeypatch, tmp_path):
    real = importlib.import_module

    def without(name, *args):
        if name == "h5py":
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(importlib, "import_module", without)
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"")
    with pytest.raises(DataError, match=r"needs the package h5py: pip install 'dadkit\[datasets\]'"):
        mini.read("nyuv2", tmp_path, split="all")
