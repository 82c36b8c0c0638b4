"""`dadkit predict`, `evaluate` and `protocols` as a user calls them."""

import json
import re

import numpy as np
import pytest
from PIL import Image


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_predict_writes_what_was_asked_for(photos, tmp_path, dadkit):
    out = tmp_path / "out"
    answer = dadkit("predict", str(photos), "--model", "topformer/tiny", "-o", str(out), "-f", "npy", "-f", "side")
    assert answer.code == 0
    assert sorted(path.name for path in out.glob("[!.]*")) == ["a.npy", "a.side.png", "b.npy", "b.side.png"]
    assert np.load(out / "a.npy").shape == (40, 56)
    assert "larger is nearer" in answer.err


def test_predict_names_what_it_could_not_read_and_keeps_the_rest(photos, tmp_path, dadkit):
    (photos / "c.jpg").write_text("<html>not found</html>")
    out = tmp_path / "out"
    answer = dadkit("predict", str(photos), "--model", "topformer/tiny", "-o", str(out), "-f", "npy")
    assert answer.code == 3
    assert sorted(path.name for path in out.glob("[!.]*")) == ["a.npy", "b.npy"]
    error = answer.err.replace("\n", "")
    assert "c.jpg" in error
    assert "1 of 3 images could not be read" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "topformer/tyny"], "did you mean"),
        (["--model", "topformer/tiny", "-f", "jpeg"], "unknown format 'jpeg'"),
        (["--model", "topformer/tiny", "--device", "cuda:99"], "cannot be used here"),
        (["--model", "topformer/tiny", "--device", "gpu"], "choose from auto, cpu, cuda"),
    ],
)
def test_predict_explains_what_is_wrong(photos, tmp_path, dadkit, arguments, message):
    answer = dadkit("predict", str(photos), "-o", str(tmp_path / "out"), *arguments)
    assert answer.code != 0
    assert message in answer.err


def test_evaluate_prints_models_beside_each_other_with_the_protocol(tmp_path, dadkit):
    models = ["--model", "topformer/tiny", "--model", "topformer/small"]
    answer = dadkit("evaluate", *models, "--trivial", "-o", str(tmp_path), "split=test", "count=3", "size=64")
    assert answer.code == 0
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["model"] for row in results["models"]] == ["topformer/tiny", "topformer/small", "vertical ramp"]
    assert f"{results['models'][0]['mean']['abs_rel']:.4f}" in answer.out
    assert "affine-disparity" in answer.out


def test_evaluate_without_a_model_says_so(dadkit):
    answer = dadkit("evaluate")
    assert answer.code != 0
    assert "--model" in answer.err
    answer = dadkit("evaluate", "--model", "starter/tiny", "dataset=nyuv2")
    assert answer.code != 0
    assert "did you mean --dataset nyuv2?" in answer.err


def test_protocols_are_listed_and_shown(dadkit):
    answer = dadkit("protocols", "--json")
    assert answer.code == 0
    names = [protocol["name"] for protocol in json.loads(answer.out)]
    assert "affine-disparity" in names
    answer = dadkit("protocols", "affine-disparity")
    assert answer.code == 0
    assert re.search(r"alignment +scale-shift", answer.out)
    answer = dadkit("protocols", "show", "marigold", "--dataset", "nyuv2")
    assert answer.code == 0
    assert re.search(r"crop +eigen-nyu", answer.out)
    answer = dadkit("protocols", "affine-disprity")
    assert answer.code == 2
    assert "did you mean" in answer.err
