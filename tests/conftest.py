"""What the tests of several rooms share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from dadkit.testing import PluginFarm

torch.set_num_threads(1)  # rooms are tested side by side


class Answer(NamedTuple):
    """What a command came to."""

    code: int
    out: str
    err: str


@pytest.fixture
def dadkit(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Answer]:
    """``dadkit("plugins", "--load")``: the command line, in this process."""
    from dadkit.cli import main

    monkeypatch.delenv("FORCE_COLOR", raising=False)
    monkeypatch.setenv("COLUMNS", "200")

    def run(*arguments: object) -> Answer:
        with pytest.raises(SystemExit) as caught:
            main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return Answer(int(caught.value.code or 0), captured.out, captured.err)

    return run


@pytest.fixture
def plugin_farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginFarm]:
    """A place to fake installed plugins in."""
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    before = set(sys.modules)
    yield PluginFarm(tmp_path)
    # A module left behind would let the next test pass without importing anything.
    for name in set(sys.modules) - before:
        if name.startswith("farm_"):
            del sys.modules[name]
