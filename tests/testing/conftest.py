from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from dadkit.testing import PluginFarm

torch.set_num_threads(1)


@pytest.fixture
def plugin_farm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[PluginFarm]:
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    before = set(sys.modules)
    yield PluginFarm(tmp_path)
    for name in set(sys.modules) - before:
        if name.startswith("farm_"):
            del sys.modules[name]
