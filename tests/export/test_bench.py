"""`dadkit bench` measures what it says: rows of several runtimes, each in its own process, and failures told."""

from __future__ import annotations

import json

import pytest
import torch

from dadkit.export import export_model
from dadkit.testing.toy import ToyStudent

pytest.importorskip("onnxruntime")


@pytest.mark.slow  # each row starts a process that imports torch
def test_rows_of_a_file_and_a_model_and_what_is_left_out(tmp_path, dadkit):
    torch.manual_seed(0)
    file = export_model(ToyStudent(), tmp_path / "toy.onnx").files[0]
    answer = dadkit(
        "bench", file, "topformer/tiny", "--backend", "eager", "--backend", "abacus", "--runs", 4, "--size", "64x96", "--json"
    )
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
    assert "--backend must be one of" in answer.err
