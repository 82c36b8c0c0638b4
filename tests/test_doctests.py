"""Examples in docstrings are true. ``torch`` is there without an import, and seeded."""

from __future__ import annotations

import doctest
from importlib import import_module
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]
MODULES = sorted(
    ".".join(path.relative_to(base).with_suffix("").parts).removesuffix(".__init__")
    for base in (ROOT, *ROOT.glob("plugins/*/"))
    for path in base.glob("dadkit*/**/*.py")
    if ">>> " in path.read_text()
)


@pytest.mark.parametrize("name", MODULES)
def test_the_examples_of(name):
    torch.manual_seed(0)
    failed, tried = doctest.testmod(import_module(name), extraglobs={"torch": torch}, optionflags=doctest.ELLIPSIS)
    assert tried
    assert not failed
