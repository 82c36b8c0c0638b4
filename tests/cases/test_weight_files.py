"""Weight files as trainers save them, and files that are something else than their names say."""

import argparse
import gzip
import io
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save

from dadkit.data import DepthPairs, Images, SampleError
from dadkit.data.images import to_tensor
from dadkit.errors import DadkitError, DataError, WeightsError
from dadkit.loading import load_model
from dadkit.prediction import find_inputs

from .conftest import picture

PAGE = b"<!DOCTYPE html><html>not found"
POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:a\nsize 1\n"
METRIC = {"max_depth": 10}


@pytest.fixture(scope="module")
def tensors():
    return load_model("dav2/tiny", weights="none").state_dict()


def wrapped(tensors):
    """Name -> what a trainer saves."""

    def under(prefix, more=None):
        return {**{prefix + name: value for name, value in tensors.items()}, **(more or {})}

    return {
        "32 Depth Anything V2's train.py": {"model": under("module."), "optimizer": {}, "epoch": 3},
        "33 compiled": under("_orig_mod."),
        "33 compiled and parallel": under("module._orig_mod."),
        "33 Lightning": {"state_dict": under("model."), "pytorch-lightning_version": "2", "hyper_parameters": {"lr": 1.0}},
        "33 Lightning with a loss": {"state_dict": under("model.", {"criterion.weight": torch.ones(3)})},
        "33 averaged beside raw": {"model": under(""), "ema": under("module.")},
        "33 nested": {"state": {"model": {"state_dict": under("net.")}}},
        "33 half": {name: value.half() for name, value in tensors.items()},
        "33 our own": dict(tensors),
        "33 sparse": {name: value.to_sparse() if value.ndim == 2 else value for name, value in tensors.items()},
        "33 NumPy's arrays": {"model": {name: value.numpy() for name, value in tensors.items()}, "history": np.arange(3.0)},
        "33 with arguments and numbers of NumPy": {
            "model": dict(tensors),
            "args": argparse.Namespace(output=Path("out")),
            "best": np.float64(0.1),
            "history": np.arange(3.0),
        },
    }


def test_33_any_wrapping_comes_off(tensors, tmp_path):
    for number, (name, saved) in enumerate(wrapped(tensors).items()):
        file = tmp_path / f"{number}.pth"
        torch.save(saved, file)
        found = load_model("dav2/tiny", weights=str(file)).state_dict()
        for key, value in tensors.items():
            torch.testing.assert_close(found[key], value, atol=1e-3, rtol=1e-3, msg=lambda text, name=name: f"{name}: {text}")


def test_32_a_metric_training_is_known_by_what_it_saved(tensors, tmp_path):
    saved = {"model": {f"module.{name}": value for name, value in tensors.items()}, "previous_best": {"d1": 0.5}}
    torch.save(saved, tmp_path / "latest.pth")
    with pytest.raises(WeightsError, match="answers in metres: use dav2/tiny-metric"):
        load_model("dav2/tiny", weights=str(tmp_path / "latest.pth"))
    load_model("dav2/tiny-metric", weights=str(tmp_path / "latest.pth"), **METRIC)


def test_33_what_is_left_out_is_said(tensors, tmp_path, caplog):
    torch.save(
        {**{f"model.{name}": value for name, value in tensors.items()}, "loss.weight": torch.ones(2)}, tmp_path / "a.pth"
    )
    load_model("dav2/tiny", weights=str(tmp_path / "a.pth"))
    assert "off its names and left out 1 other: loss.weight" in caplog.text


def test_34_a_relative_result_is_no_metric_weights(tensors, tmp_path):
    file = tmp_path / "model.safetensors"
    file.write_bytes(save(dict(tensors), {"dadkit": '{"component": "dav2/tiny", "space": "disparity"}'}))
    with pytest.raises(WeightsError, match=r"by its own metadata, its answers are relative, not metres.* init: encoder"):
        load_model("dav2/tiny-metric", weights=str(file), **METRIC)


def test_35_and_36_a_file_of_another_family_is_not_said_to_be_this_one(tmp_path):
    zoe = {"core.core.pretrained.cls_token": torch.ones(1, 1, 8), "seed_bin_regressor._net.0.weight": torch.ones(2)}
    leres = {"depth_model": {"module.encoder_modules.encoder.conv1.weight": torch.ones(2, 2)}}
    for component, saved in {"dav2/tiny": zoe, "leres/resnet50": leres}.items():
        torch.save(saved, tmp_path / "a.pth")
        with pytest.raises(WeightsError, match=r"a\.pth") as caught:
            load_model(component, weights=str(tmp_path / "a.pth"))
        text = str(caught.value)
        assert not ("does not look like LeReS" in text and "names are those of LeReS" in text)
        assert ("Intel/zoedepth-nyu" in text) is (component == "dav2/tiny")


def test_55_and_64_weights_and_maps_of_nan_are_said(tensors, tmp_path, dadkit):
    name = next(iter(tensors))
    for wrong in ("nan", "inf"):
        torch.save({**tensors, name: torch.full_like(tensors[name], float(wrong))}, tmp_path / "a.pth")
        with pytest.warns(UserWarning, match=f"a.pth holds NaN or infinity in {name}"):
            load_model("dav2/tiny", weights=str(tmp_path / "a.pth"))
    Image.fromarray(picture(28, 42)).save(tmp_path / "p.png")
    answer = dadkit("predict", tmp_path / "p.png", "-m", f"dav2/tiny:weights={tmp_path / 'a.pth'}", "-o", tmp_path, "-f", "npy")
    assert "100% of the map is NaN or infinite" in answer.err


def not_weights():
    """Bytes -> what is said of them."""
    whole, archive, module, arrays = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    np.savez(arrays, a=np.ones(3))
    torch.save({"a": torch.ones(500)}, whole)
    with zipfile.ZipFile(archive, "w") as handle:
        handle.writestr("folder/a.pth", b"x")
    torch.save(torch.nn.Linear(2, 2), module)
    return {
        PAGE: "a web page",
        POINTER: "git lfs pull",
        b"": "empty",
        b'{"error": 1}': "JSON",
        gzip.compress(b"x"): "unpack it",
        whole.getvalue()[:900]: "cut short or damaged",
        archive.getvalue(): "not one of torch.save",
        b"GGUF\3\0\0\0": "a GGUF file",
        arrays.getvalue(): "not one of torch.save",
        module.getvalue(): "asks for torch.nn.modules.linear.Linear",
    }


def test_56_a_files_content_says_its_format(tensors, tmp_path):
    """Not its name, which somebody has changed."""
    (tmp_path / "a.pth").write_bytes(save(dict(tensors)))
    torch.save(dict(tensors), tmp_path / "a.safetensors")
    for name in ("a.pth", "a.safetensors"):
        found = load_model("dav2/tiny", weights=str(tmp_path / name)).state_dict()
        assert all(torch.equal(found[key], value) for key, value in tensors.items())


def test_56_quantised_weights_are_refused(tensors, tmp_path):
    torch.save({name: value.to(torch.int8) for name, value in tensors.items()}, tmp_path / "a.pth")
    with pytest.raises(WeightsError, match=r"holds int8 where .*scales.*\(15\d: "):
        load_model("dav2/tiny", weights=str(tmp_path / "a.pth"))
    torch.save({name: value.to("meta") for name, value in tensors.items()}, tmp_path / "b.pth")
    with pytest.raises(WeightsError, match="shapes without numbers"):
        load_model("dav2/tiny", weights=str(tmp_path / "b.pth"))


@pytest.mark.parametrize(("data", "words"), not_weights().items(), ids=lambda one: one if isinstance(one, str) else "")
def test_56_what_a_weight_file_really_is(data, words, tmp_path):
    (tmp_path / "a.pth").write_bytes(data)
    with pytest.raises(WeightsError, match=words) as caught:
        load_model("dav2/tiny", weights=str(tmp_path / "a.pth"))
    assert "weights_only=True" not in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_33_a_runs_folder_stands_for_its_result(tensors, tmp_path):
    for stage in ("first", "second"):
        folder = tmp_path / "run" / "stages" / stage
        folder.mkdir(parents=True)
        (folder / "model.safetensors").write_bytes(save(dict(tensors)))
        if stage == "first":
            found = load_model("dav2/tiny", weights=str(tmp_path / "run")).state_dict()
            assert all(torch.equal(found[key], value) for key, value in tensors.items())
    with pytest.raises(WeightsError, match=r"run of several stages; give the result of one: .*first.*second"):
        load_model("dav2/tiny", weights=str(tmp_path / "run"))


def test_57_what_a_picture_or_depth_file_really_is(tmp_path):
    for folder in ("images", "depth"):
        (tmp_path / folder).mkdir()
    Image.fromarray(picture(24, 32)).save(tmp_path / "images" / "a.png")
    for data, words in {PAGE: "a web page", POINTER: "git lfs pull", b"": "empty"}.items():
        (tmp_path / "b.jpg").write_bytes(data)
        (tmp_path / "depth" / "a.npy").write_bytes(data)
        with pytest.raises(DataError, match=rf"b\.jpg: the file is .*{words}"):
            to_tensor(tmp_path / "b.jpg")
        with pytest.raises(SampleError, match=rf"a\.npy: cannot be read as npy: the file is .*{words}"):
            DepthPairs(tmp_path, encoding="npy", space="metric")[0]
    with zipfile.ZipFile(tmp_path / "depth" / "a.npz", "w") as handle:
        handle.writestr("a.png", b"x")
    with pytest.raises(SampleError, match="holds no array of NumPy"):
        DepthPairs(tmp_path, encoding="npz", space="metric")[0]
    Image.new("L", (32, 24), 9).save(tmp_path / "depth" / "a.png")
    with pytest.raises(SampleError, match="encoding: png8 reads it"):
        DepthPairs(tmp_path, encoding="png16", space="metric", scale=1)[0]


@pytest.mark.parametrize("head", [b"\0\0\0\x20ftypisom", b"\x1aE\xdf\xa3\1\0", b"RIFF\0\0\0\0AVI LIST"])
def test_57_a_film_under_a_pictures_name(head, tmp_path):
    (tmp_path / "a.jpg").write_bytes(head + bytes(64))
    with pytest.raises(DataError, match=r"the file is a film .*, which is read under the ending"):
        to_tensor(tmp_path / "a.jpg")


def test_57_an_archive_that_promises_gigabytes_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("dadkit.data.depth_files._MAX_BYTES", 1000)
    for folder in ("images", "depth"):
        (tmp_path / folder).mkdir()
    Image.fromarray(picture(24, 32)).save(tmp_path / "images" / "a.png")
    np.savez_compressed(tmp_path / "depth" / "a.npz", np.zeros((24, 32)))
    with pytest.raises(SampleError, match="is no depth map"):
        DepthPairs(tmp_path, encoding="npz", space="metric")[0]


def test_05_links_to_themselves_odd_names_and_quoted_lists(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "round").symlink_to("round")
    (folder / "again").symlink_to(folder)
    (folder / "loop.jpg").symlink_to("loop.jpg")
    names = ("a b.png", "-dash.png", "two\nlines.png", "quo\"te'.png", "ü中😀.PNG")
    for name in names:
        Image.fromarray(picture(24, 32)).save(folder / name)
    images = Images(folder, min_size=1)
    assert len(images) == len(names) + 1
    readable = [images[index].key for index in range(len(images)) if images.key(index) != "loop"]
    assert len(readable) == len(names)
    with pytest.raises(SampleError, match="Too many levels"):
        images[[images.key(index) for index in range(len(images))].index("loop")]
    (folder / "list.txt").write_text('"a b.png"\r\nü中😀.PNG\r\n', encoding="utf-8-sig")
    assert len(find_inputs([folder / "list.txt"]).images) == 2
    for text in ("x" * 5000 + ".png", "a\0.png", "https://example.org/a.png", "C:\\photos\\a.png"):
        (folder / "list.txt").write_text(text)
        with pytest.raises(DadkitError, match=r"list\.txt names do not exist, first line 1"):
            Images(folder / "list.txt")
