"""`dadkit config check | show | schema`."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dadkit.config import default_text


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch, registry: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("dadkit.plugin.get_registry", lambda: registry)
    monkeypatch.chdir(tmp_path)


def test_check(small: str, dadkit: Callable[..., Any]) -> None:
    Path("a.yaml").write_text(small)
    Path("b.yaml").write_text(small + "stages:\n  - {name: one}\n  - {name: two}\n")
    answer = dadkit("config", "check", "a.yaml", "b.yaml", "optim.lr=0.5")
    assert answer.code == 0
    assert answer.out.splitlines() == ["a.yaml: ok (stage main)", "b.yaml: ok (stages one, two)"]


def test_check_prints_every_mistake_of_every_file_and_exits_with_2(small: str, dadkit: Callable[..., Any]) -> None:
    Path("good.yaml").write_text(small)
    five = small.replace("toy/tiny", "toy/tny") + "optim: {lrr: 1}\nseed: -1\nreport: yes\nfoo: 1\n"
    Path("bad.yaml").write_text(five)
    answer = dadkit("config", "check", "bad.yaml", "good.yaml", "missing.yaml")
    assert answer.code == 2
    assert answer.out == "good.yaml: ok (stage main)\n"
    places = [line.split(": ")[0] for line in answer.err.splitlines()]
    assert places == ["bad.yaml:1:17", "bad.yaml:6:9", "bad.yaml:7:7", "bad.yaml:8:9", "bad.yaml:9:1", "missing.yaml"]


def test_show_prints_a_run_that_loads_again(small: str, dadkit: Callable[..., Any]) -> None:
    Path("a.yaml").write_text(small)
    answer = dadkit("config", "show", "a.yaml", "optim.lr=0.5")
    assert answer.code == 0
    first = answer.out
    assert "    lr: 0.5\n" in first
    Path("again.yaml").write_text(first)
    answer = dadkit("config", "show", "again.yaml")
    assert answer.code == 0
    assert answer.out == first


def test_show_without_a_file_prints_the_defaults(dadkit: Callable[..., Any]) -> None:
    answer = dadkit("config", "show")
    assert answer.code == 0
    assert answer.out == default_text()


def test_show_of_a_wrong_file(small: str, dadkit: Callable[..., Any]) -> None:
    Path("a.yaml").write_text(small)
    answer = dadkit("config", "show", "a.yaml", "optim.lrr=1")
    assert answer.code == 2
    assert "override 'optim.lrr=1': optim.lrr: unknown key, did you mean 'lr'?" in answer.err
    answer = dadkit("config", "show", "a.yaml", "b.yaml")
    assert answer.code == 2
    assert "show takes one file, got a.yaml, b.yaml" in answer.err
    answer = dadkit("config", "show", "optim.lr=1")
    assert answer.code == 2
    assert "no file is given, only optim.lr=1" in answer.err


def test_schema(dadkit: Callable[..., Any]) -> None:
    answer = dadkit("config", "schema", "optim.lr")
    assert answer.code == 0
    assert json.loads(answer.out)["exclusiveMinimum"] == 0
    answer = dadkit("config", "schema", "toy/silog")
    assert answer.code == 0
    assert "lam" in json.loads(answer.out)["properties"]
    answer = dadkit("config", "schema")
    assert answer.code == 0
    assert json.loads(answer.out)["title"] == "dadkit run"
    answer = dadkit("config", "schema", "optim.lrr")
    assert answer.code == 2
    assert "did you mean 'lr'?" in answer.err
    answer = dadkit("config", "schema", "hybrd")
    assert answer.code == 2
    assert "no component is called 'hybrd', did you mean 'hybrid'" in answer.err
