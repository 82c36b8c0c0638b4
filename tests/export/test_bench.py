"""`dadkit bench` measures what it says: rows of several runtimes, each in its own process, and failures told."""

from __future__ import annotations

import json

import pytest
import torch

from dadkit.export import bench, export_model
from dadkit.export.bench import Timing
from dadkit.testing.toy import ToyStudent

pytest.importorskip("onnxruntime")


@pytest.mark.slow  # each row starts a process that imports torch
def test_rows_of_a_file_and_a_model_and_what_is_left_out(tmp_path, dadkit):
    torch.manual_seed(0)
    file = export_model(ToyStudent(), tmp_path / "toy.onnx").files[0]
    answer = dadkit(
        "bench", file, "topformer/tiny", "--backend", "eager", "--backend", "abacus", "--runs", 4, "--size", "64x96", "--json",
        "--data", "procedural:count=3,size=64,split=test", "--picture", tmp_path / "pareto.svg",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    first, second = json.loads(answer.out)
    assert (first["model"], second["model"]) == (str(file), "topformer/tiny")
    assert first["megabytes"] == pytest.approx(file.stat().st_size / 1e6)
    assert (first["parameters"], second["megabytes"]) == (None, None)
    assert second["parameters"] > 1e6
    assert first["multiply_adds"] is None
    assert 1e6 < second["multiply_adds"] < 1e9
    for row in (first, second):
        assert 0 < row["p50_ms"] <= row["p90_ms"] <= row["p99_ms"]
        assert row["first_ms"] > 0
        assert row["size"] == [64, 96]
        assert row["pipeline_per_s"] > 0
        assert row["peak_mb"] > 50
        assert 0 < row["abs_rel_low"] <= row["abs_rel"] <= row["abs_rel_high"]
    drawn = (tmp_path / "pareto.svg").read_text()
    assert drawn.count("<!-- topformer/tiny -->") == 1
    assert "toy.onnx" in drawn
    assert "--backend must be one of" in answer.err


def test_the_picture_joins_what_no_other_row_beats():
    def row(milliseconds, error):
        return Timing("m", "eager", (1, 1), 1, 1.0, milliseconds, 1.0, 1.0, 1.0, False, 1.0, 1.0, None, None, None, error)

    fast, good, beaten = row(1.0, 0.3), row(5.0, 0.1), row(6.0, 0.2)
    assert [[bench._beats(one, other) for other in (fast, good, beaten)] for one in (fast, good, beaten)] == [
        [False, False, False],
        [False, False, True],
        [False, False, False],
    ]
