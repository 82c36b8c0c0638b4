"""docs/evaluation.md names every protocol, dataset, option, field, metric and figure; its code runs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from dadkit.config.components import options_model
from dadkit.evaluation import Protocol, protocol_names
from dadkit.evaluation.metrics import DEPTH_METRICS, ORDINAL_METRICS
from dadkit.plugin import Registry
from dadkit.prediction import FORMATS
from dadkit.report.evaluation import FIGURES

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
CORE = Registry(distributions=[])
PUBLIC = [c for c in CORE.components("dataset") if "benchmarks" in c.target]


def rows() -> dict[str, str]:
    """First word in code of a table's row -> the row."""
    found = {}
    for line in PAGE.splitlines():
        names = re.findall(r"`([^`]+)`", line.split("|")[1]) if line.startswith("|") else []
        found |= dict.fromkeys(names, line)
    return found


def test_protocols_fields_figures_and_metrics_are_on_the_page():
    table = rows()
    assert set(protocol_names()) <= set(table)
    assert set(FIGURES) <= set(table)
    general = {"name", "summary", "source", "task", "dataset", "datasets"}
    assert set(Protocol.model_fields) - general <= set(table)
    section = PAGE.split("### Metrics")[1].split("\n## ")[0]
    spelled = set(re.findall(r"`(\w+(?:\.\d+)?)`", section)) | {"delta2", "silog_1"}
    assert set(DEPTH_METRICS) | set(ORDINAL_METRICS) <= spelled
    assert all(name in (Path(__file__).parents[2] / "docs" / "predict.md").read_text(encoding="utf-8") for name in FORMATS)


@pytest.mark.parametrize("component", PUBLIC, ids=lambda component: component.name)
def test_datasets_and_their_options_are_on_the_page(component):
    row = rows()[component.name]
    if "training_sets" in component.target:
        return
    for field in options_model(component, registry=CORE).model_fields.values():
        if field.alias != "root":
            assert re.search(rf"`{field.alias}\b", row), (component.name, field.alias)


def test_the_examples_work(tmp_path, capsys):
    text = PAGE.split("```yaml\n")[1].split("```")[0]
    assert Protocol(name="mine", **yaml.safe_load(text)).crop == "garg"
    code = PAGE.split("```python\n")[1].split("```")[0]
    exec(compile(code, "evaluation.md", "exec"), {})
    assert capsys.readouterr().out == "4 True True\n"
