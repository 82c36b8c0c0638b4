"""`dadkit predict --sparse`: metres from a relative model and points."""

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from dadkit.cli import app

SIZE = (48, 64)


@pytest.fixture
def room(tmp_path):
    """Two pictures, metres, and points of each in a folder."""
    rows = np.linspace(0, 1, SIZE[0])[:, None] * np.ones(SIZE[1])
    metres = 6 - 4 * rows
    rng = np.random.default_rng(0)
    (tmp_path / "points").mkdir()
    for name in ("a", "b"):
        Image.fromarray((255 * np.stack([rows, rows, rows], -1)).astype(np.uint8)).save(tmp_path / f"{name}.png")
        at = rng.permutation(SIZE[0] * SIZE[1])[:80]
        lines = [f"{i % SIZE[1]},{i // SIZE[1]},{metres.flat[i] * 1000:.1f}" for i in at]
        (tmp_path / "points" / f"{name}.csv").write_text("x,y,mm\n" + "\n".join(lines))
    return tmp_path, metres


def predict(*words):
    return CliRunner().invoke(app, ["predict", *map(str, words), "--model", "starter/tiny", "--format", "npz, npy"])


def test_metres_for_several_pictures_and_what_was_used(room):
    folder, metres = room
    given = ("--sparse", folder / "points", "--sparse-scale", 0.001, "-o", folder / "out")
    result = predict(folder / "a.png", folder / "b.png", *given)
    assert result.exit_code == 0, result.output
    assert "metres" in result.output
    with np.load(folder / "out" / "a.npz") as stored:
        assert str(stored["space"]) == "metric"
        assert float(np.abs(stored["depth"] - metres).mean()) < 0.3
        assert 70 <= int(stored["used"].sum()) <= 80
        assert float(stored["support"].max()) > 4
    again = predict(folder / "a.png", folder / "b.png", *given)
    assert "2 finished before" in again.output
    other = predict(folder / "a.png", folder / "b.png", *given, "--completer", "align:local=none")
    assert "2 with results of" in other.output


def test_points_without_a_plausible_unit_are_questioned_and_missing_ones_refused(room):
    folder, _ = room
    result = predict(folder / "a.png", "--sparse", folder / "points" / "a.csv", "-o", folder / "out")
    assert "millimetres" in result.output
    (folder / "points" / "b.csv").unlink()
    result = predict(folder / "a.png", folder / "b.png", "--sparse", folder / "points", "-o", folder / "out2")
    assert result.exit_code != 0
    assert "no file of points named b" in str(result.exception) + result.output
