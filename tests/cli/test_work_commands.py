"""`dadkit predict`, `evaluate` and `protocols` as a user calls them."""

import json
import re

import numpy as np
import pytest
from PIL import Image

from dadkit.cli import main


def _run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as exit_:
        main(list(arguments))
    return int(exit_.value.code or 0)


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        Image.fromarray(rng.integers(0, 256, (40, 56, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    return folder


def test_predict_writes_what_was_asked_for(photos, tmp_path, capsys):
    out = tmp_path / "out"
    assert _run("predict", str(photos), "--model", "topformer/tiny", "-o", str(out), "-f", "npy", "-f", "side") == 0
    assert sorted(path.name for path in out.iterdir()) == ["a.npy", "a.side.png", "b.npy", "b.side.png"]
    assert np.load(out / "a.npy").shape == (40, 56)
    assert "larger is nearer" in capsys.readouterr().err


def test_predict_names_what_it_could_not_read_and_keeps_the_rest(photos, tmp_path, capsys):
    (photos / "c.jpg").write_text("<html>not found</html>")
    out = tmp_path / "out"
    assert _run("predict", str(photos), "--model", "topformer/tiny", "-o", str(out), "-f", "npy") == 3
    assert sorted(path.name for path in out.iterdir()) == ["a.npy", "b.npy"]
    error = capsys.readouterr().err.replace("\n", "")
    assert "c.jpg" in error
    assert "1 of 3 images could not be read" in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "topformer/tyny"], "did you mean"),
        (["--model", "topformer/tiny", "-f", "jpeg"], "unknown format 'jpeg'"),
        (["--model", "topformer/tiny", "--device", "cuda:99"], "cannot be used here"),
    ],
)
def test_predict_explains_what_is_wrong(photos, tmp_path, capsys, arguments, message):
    assert _run("predict", str(photos), "-o", str(tmp_path / "out"), *arguments) != 0
    assert message in capsys.readouterr().err


def test_evaluate_prints_models_beside_each_other_with_the_protocol(tmp_path, capsys):
    models = ["--model", "topformer/tiny", "--model", "topformer/small"]
    code = _run("evaluate", *models, "--trivial", "-o", str(tmp_path), "split=test", "count=3", "size=64")
    assert code == 0
    printed = capsys.readouterr().out
    results = json.loads((tmp_path / "evaluation.json").read_text())
    assert [row["model"] for row in results["models"]] == ["topformer/tiny", "topformer/small", "vertical ramp"]
    assert f"{results['models'][0]['mean']['abs_rel']:.4f}" in printed
    assert "affine-disparity" in printed


def test_evaluate_without_a_model_says_so(capsys):
    assert _run("evaluate") != 0
    assert "--model" in capsys.readouterr().err


def test_protocols_are_listed_and_shown(capsys):
    assert _run("protocols", "--json") == 0
    names = [protocol["name"] for protocol in json.loads(capsys.readouterr().out)]
    assert "affine-disparity" in names
    assert _run("protocols", "affine-disparity") == 0
    assert re.search(r"alignment +scale-shift", capsys.readouterr().out)
    assert _run("protocols", "show", "marigold", "--dataset", "nyuv2") == 0
    assert re.search(r"crop +eigen-nyu", capsys.readouterr().out)
    assert _run("protocols", "affine-disprity") == 2
    assert "did you mean" in capsys.readouterr().err
