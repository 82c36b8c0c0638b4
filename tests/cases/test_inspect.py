"""`dadkit inspect`: what is in a dataset, before training."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dadkit.cli import app
from dadkit.report.inspection import inspect_data


@pytest.fixture
def folder(tmp_path):
    """Five photographs with depth: two look the same, one is nearly constant, one has damaged depth."""
    rng = np.random.default_rng(0)
    for part in ("images", "depth"):
        (tmp_path / part).mkdir()
    blocks = [np.kron(rng.integers(0, 255, (8, 8, 3)), np.ones((10, 10, 1))) for _ in range(5)]
    blocks[1] = blocks[0] + rng.integers(-2, 3, blocks[0].shape)
    blocks[2][:] = 7
    for index, pixels in enumerate(blocks):
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(tmp_path / "images" / f"{index}.png")
        depth = np.full((80, 80), 2000 + 100 * index, np.uint16)
        depth[:40] = 0
        Image.fromarray(depth).save(tmp_path / "depth" / f"{index}.png")
    (tmp_path / "depth" / "4.png").write_bytes(b"broken")
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(app, ["inspect", *map(str, arguments)])


def test_58_counts_reasons_twins_and_doubts(folder):
    options = [f"root={folder}", "encoding=png16", "space=metric", "scale=0.001"]
    (found,) = json.loads(run("pairs", *options, "--json").stdout)
    assert (found["samples"], found["looked at"], found["would be skipped"]) == (5, 5, 1)
    assert found["sizes"] == ["80 x 80: 4"]
    assert found["valid pixels"] == "50.0% on average, 50.0% at least"
    assert found["depth"].startswith("median 2.1")
    assert found["twins"] == [["0", "1"]]
    assert "4.png: cannot be read as png16" in found["skipped"][0][1]
    assert any("1 images are nearly constant, the first 2" in doubt for doubt in found["doubts"])
    with pytest.warns(UserWarning, match="is scale missing"):
        assert "is scale missing, or wrong?" in run("pairs", *options[:-1], "scale=1").output


def test_58_the_page_is_written_once_and_over_nothing_of_the_users(folder, tmp_path):
    look = tmp_path / "look"
    assert run(folder / "images", "-o", look).exit_code == 0
    page = (look / "inspection.html").read_text()
    assert page.count("data:image/jpeg") == 5
    assert run(folder / "images", "-o", look).exit_code == 0
    other = tmp_path / "other"
    other.mkdir()
    (other / "inspection.html").write_text("mine")
    assert "did not write it" in run(folder / "images", "-o", other).output
    assert (other / "inspection.html").read_text() == "mine"


def test_58_all_data_of_a_run(folder, tmp_path):
    pair = f"{{name: pairs, options: {{root: {folder}, encoding: png16, space: metric, scale: 0.001}}}}"
    rest = "losses: {local_global: {weight: 0}}, iterations: 1"
    (tmp_path / "run.yaml").write_text(f"{{student: {{name: topformer/tiny}}, data: {{labelled: [{pair}]}}, {rest}}}")
    output = run(tmp_path / "run.yaml", "--limit", 2).output
    assert "labelled pairs" in output
    assert "looked at" in output


def test_58_an_empty_dataset_is_no_error():
    assert inspect_data("none", []).facts()["samples"] == 0
