"""The schema describes itself: descriptions, JSON Schema, the page's table, the default file."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ValidationError

from dadkit.config import ConfigError, default_text, json_schema, load_run
from dadkit.config.reader import read_document
from dadkit.config.reference import find_keys, markdown, renew
from dadkit.config.schema import OptimConfig, RunConfig, RunFile, StageConfig, StageFields, StudentConfig
from dadkit.config.sections import find_slots, kinds_of, models_in, slot_paths
from dadkit.kinds import KINDS
from dadkit.plugin import PluginError

PAGE = Path(__file__).parents[2] / "docs" / "configuration.md"


def all_models() -> list[type[BaseModel]]:
    found: dict[str, type[BaseModel]] = {}
    waiting: list[type[BaseModel]] = [RunFile, RunConfig]
    while waiting:
        model = waiting.pop()
        if model.__name__ not in found:
            found[model.__name__] = model
            waiting += [inner for field in model.model_fields.values() for inner in models_in(field.annotation)]
    return list(found.values())


@pytest.mark.parametrize("model", all_models(), ids=lambda model: model.__name__)
def test_every_field_is_described_and_every_model_is_strict(model: type[BaseModel]) -> None:
    assert model.__doc__
    assert model.model_config["extra"] == "forbid"
    assert model.model_config["frozen"] is True
    for name, field in model.model_fields.items():
        assert field.description, f"{model.__name__}.{name} has no description"
        assert field.description.endswith("."), f"{model.__name__}.{name}: a description is a sentence"
        assert "\n" not in field.description


def test_every_field_that_names_components_says_of_which_kind() -> None:
    for model in all_models():
        for name, field in model.model_fields.items():
            named = any({"name", "options"} <= set(inner.model_fields) for inner in models_in(field.annotation))
            assert bool(kinds_of(field)) == named, f"{model.__name__}.{name}"
            assert set(kinds_of(field)) <= set(KINDS)


def test_slots() -> None:
    assert ("losses", "local_global", "normalizer") in set(slot_paths(StageFields))
    data = {
        "stages": [{"student": {"name": "a"}, "teachers": [{"stage": "b"}, 5], "losses": {"feature": {"reference": "teacher"}}}]
    }
    assert [(slot.kinds, slot.path) for slot in find_slots(RunConfig, data)] == [
        (("student", "completer"), ("stages", 0, "student")),
        (("teacher",), ("stages", 0, "teachers", 0)),
    ]


def test_runs_can_be_made_in_python_and_cannot_be_changed() -> None:
    stage = StageConfig(student=StudentConfig(name="toy/tiny"), iterations=5)
    run = RunConfig(stages=[stage])
    with pytest.raises(ValidationError):
        run.seed = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="at least 1 item"):
        RunConfig(stages=[])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"iterations": 5}, "a stage needs a student"),
        ({"student": StudentConfig(name="a")}, "a stage needs either iterations or epochs"),
        ({"student": StudentConfig(name="a"), "iterations": 1, "epochs": 1.0}, "a stage needs either iterations or epochs"),
        (
            {"student": StudentConfig(name="a"), "iterations": 1, "optim": OptimConfig(accumulate=3)},
            "batch_size must be a multiple of optim.accumulate",
        ),
    ],
)
def test_stages_made_in_python_are_complete(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        StageConfig(**fields)


def test_the_page_has_the_table_of_the_schema() -> None:
    page = PAGE.read_text(encoding="utf-8")
    assert renew(page) == page, "the schema changed: run `python -m dadkit.config docs/configuration.md`"
    with pytest.raises(ValueError, match="the page needs the lines"):
        renew("# Nothing")


def test_the_table_tells_types_and_the_defaults_that_hold() -> None:
    rows = {row.split("|")[1].strip(): row for row in markdown().splitlines() if row.startswith("| `")}
    assert "| number ≥ 0 | `0.5` |" in rows["`losses.local_global.weight`"]
    assert "| text | `global` |" in rows["`losses.labelled.normalizer.name`"]
    assert "| whole number ≥ 1 or null | `null` |" in rows["`iterations`"]
    assert "| number > 0 or null | `1.0` |" in rows["`optim.clip_norm`"]
    assert "| [number, number] | `[0.9, 0.999]` |" in rows["`optim.betas`"]
    assert "| required |" in rows["`evaluation.data.name`"]
    assert set(rows) >= {f"`{key.path}`" for key in find_keys(StageFields)}


def test_the_default_file_holds_the_defaults() -> None:
    node, problems = read_document(default_text(), "defaults.yaml")
    assert not problems
    assert RunFile.model_validate(node.plain()) == RunFile()
    assert "# Optimiser steps; give this or `epochs`.\niterations: null\n" in default_text()


def test_json_schema_of_the_whole_file_knows_the_components(registry: Any) -> None:
    schema = json_schema(registry=registry)
    student = schema["properties"]["student"]
    assert "#/$defs/student components" in str(student)
    assert "#/$defs/StudentConfig" in str(student)
    known = schema["$defs"]["teacher components"]
    assert {"enum": [component.name for component in registry.components("teacher")]} in known["properties"]["name"]["anyOf"]
    rule = next(rule for rule in known["allOf"] if rule["if"]["properties"]["name"]["const"] == "toy/large")
    options = rule["then"]["properties"]["options"]
    assert options["properties"]["scale"] == {
        "default": 1.0,
        "description": "factor.",
        "title": "scale",
        "type": "number",
    }
    assert options["additionalProperties"] is False
    broken = next(rule for rule in known["allOf"] if rule["if"]["properties"]["name"]["const"] == "toy/broken")
    assert "needs a package that is not installed" in broken["then"]["properties"]["options"]["description"]
    pairs = next(rule for rule in schema["$defs"]["dataset components"]["allOf"] if "pairs" in str(rule["if"]))
    assert pairs["then"]["required"] == ["options"]


def test_every_reference_of_the_json_schema_exists(registry: Any) -> None:
    schema = json_schema(registry=registry)

    def references(node: Any) -> list[str]:
        if isinstance(node, list):
            return [found for item in node for found in references(item)]
        if isinstance(node, dict):
            own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
            return own + [found for item in node.values() for found in references(item)]
        return []

    found = references(schema)
    assert len(found) > 10
    assert {reference.removeprefix("#/$defs/") for reference in found} <= set(schema["$defs"])


def test_json_schema_of_a_key() -> None:
    assert json_schema("optim.lr") == {
        "default": 5e-5,
        "description": "Peak learning rate of the decoder (Distill Any Depth: 5e-5).",
        "exclusiveMinimum": 0,
        "type": "number",
    }
    assert json_schema("stages.0.teachers.0.probability")["type"] == "number"
    with pytest.raises(ConfigError, match=r"losses.shred: there is no such key, did you mean 'shared'\?"):
        json_schema("losses.shred")


def test_json_schema_of_a_component(registry: Any) -> None:
    assert "lam" in json_schema(component="toy/silog", registry=registry)["properties"]
    both = json_schema(component="toy/tiny", registry=registry)
    assert set(both) == {"teacher", "student"}
    assert both["student"]["properties"]["width"]["minimum"] == 8
    with pytest.raises(PluginError, match="did you mean 'toy/silog'"):
        json_schema(component="toy/silogg", registry=registry)
    with pytest.raises(PluginError, match="no component is called 'hybrd', did you mean 'hybrid'"):
        json_schema(component="hybrd", registry=registry)


def test_the_pages_examples_are_valid(tmp_path: Path) -> None:
    examples = re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    assert len(examples) == 3
    for number, text in enumerate(examples):
        path = tmp_path / f"example{number}.yaml"
        path.write_text(text, encoding="utf-8")
        run = load_run(path)
        assert run.name == f"example{number}"
    assert [stage.optim.lr for stage in run.stages] == [3e-4, 3e-4]


def test_the_configuration_imports_no_torch() -> None:
    code = "import sys, dadkit.config, dadkit.cli.config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
