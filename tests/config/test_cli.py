"""`dadkit config check | show | schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from dadkit.cli import main
from dadkit.config import default_text


@pytest.fixture(autouse=True)
def _toys(monkeypatch: pytest.MonkeyPatch, registry: Any, tmp_path: Path) -> None:
    monkeypatch.setattr("dadkit.plugin.get_registry", lambda: registry)
    monkeypatch.chdir(tmp_path)


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["config", *arguments])
    return int(caught.value.code or 0)


def test_check(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text(small)
    Path("b.yaml").write_text(small + "stages:\n  - {name: one}\n  - {name: two}\n")
    assert run("check", "a.yaml", "b.yaml", "optim.lr=0.5") == 0
    assert capsys.readouterr().out.splitlines() == ["a.yaml: ok (stage main)", "b.yaml: ok (stages one, two)"]


def test_check_prints_every_mistake_of_every_file_and_exits_with_2(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("good.yaml").write_text(small)
    five = small.replace("toy/tiny", "toy/tny") + "optim: {lrr: 1}\nseed: -1\nreport: yes\nfoo: 1\n"
    Path("bad.yaml").write_text(five)
    assert run("check", "bad.yaml", "good.yaml", "missing.yaml") == 2
    captured = capsys.readouterr()
    assert captured.out == "good.yaml: ok (stage main)\n"
    places = [line.split(": ")[0] for line in captured.err.splitlines()]
    assert places == ["bad.yaml:1:17", "bad.yaml:6:9", "bad.yaml:7:7", "bad.yaml:8:9", "bad.yaml:9:1", "missing.yaml"]


def test_show_prints_a_run_that_loads_again(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text(small)
    assert run("show", "a.yaml", "optim.lr=0.5") == 0
    first = capsys.readouterr().out
    assert "    lr: 0.5\n" in first
    Path("again.yaml").write_text(first)
    assert run("show", "again.yaml") == 0
    assert capsys.readouterr().out == first


def test_show_without_a_file_prints_the_defaults(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show") == 0
    assert capsys.readouterr().out == default_text()


def test_show_of_a_wrong_file(small: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("a.yaml").write_text(small)
    assert run("show", "a.yaml", "optim.lrr=1") == 2
    assert "override 'optim.lrr=1': optim.lrr: unknown key, did you mean 'lr'?" in capsys.readouterr().err
    assert run("show", "a.yaml", "b.yaml") == 1
    assert "show takes one file, got a.yaml, b.yaml" in capsys.readouterr().err
    assert run("show", "optim.lr=1") == 1
    assert "no file is given, only optim.lr=1" in capsys.readouterr().err


def test_schema(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("schema", "optim.lr") == 0
    assert json.loads(capsys.readouterr().out)["exclusiveMinimum"] == 0
    assert run("schema", "toy/silog") == 0
    assert "lam" in json.loads(capsys.readouterr().out)["properties"]
    assert run("schema") == 0
    assert json.loads(capsys.readouterr().out)["title"] == "dadkit run"
    assert run("schema", "optim.lrr") == 2
    assert "did you mean 'lr'?" in capsys.readouterr().err
    assert run("schema", "hybrd") == 2
    assert "no component is called 'hybrd', did you mean 'hybrid'" in capsys.readouterr().err
