"""The table of docs/kernels.md is the one that its report gives."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_table_in_the_docs_is_that_of_the_report():
    spec = importlib.util.spec_from_file_location("table", ROOT / "benchmarks" / "table.py")
    table = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(table)
    report = json.loads((ROOT / "benchmarks" / "results" / "losses.json").read_text())
    assert table.markdown(report) in table.PAGE.read_text()
