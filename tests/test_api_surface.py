"""The public names and how they are called, held against ``tests/api_surface.json``: none goes or changes by accident.

After a change that is meant, write the file anew and commit it beside the change:

    DADKIT_WRITE_API_SURFACE=1 pytest tests/test_api_surface.py
"""

from __future__ import annotations

import inspect
import json
import os
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("api_surface.json")
MODULES = (
    "dadkit",
    "dadkit.interfaces",
    "dadkit.losses",
    "dadkit.options",
    "dadkit.plugin",
    "dadkit.testing",
    "dadkit.testing.toy",
    "dadkit.weights",
)


def surface(module: str) -> dict[str, Any]:
    found = import_module(module)
    return {name: describe(getattr(found, name)) for name in sorted(found.__all__)}


def describe(value: Any) -> Any:
    """A function's arguments; a class's constructor and public methods; for anything else its type."""
    if isinstance(value, type) and issubclass(value, Enum):
        return [member.name for member in value]
    if isinstance(value, type):
        own = {} if issubclass(value, Exception) else {"()": arguments(value)}
        public = [name for name in sorted(vars(value)) if name == "__call__" or not name.startswith("_")]
        for name in public:
            member = inspect.getattr_static(value, name)
            if inspect.isfunction(member) or isinstance(member, classmethod | staticmethod):
                own[f"{name}()"] = arguments(getattr(member, "__func__", member))
        return own
    return arguments(value) if inspect.isroutine(value) else type(value).__name__


def arguments(function: Any) -> str:
    """Names, kinds and defaults, without annotations, which may be spelt in several ways."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return "…"
    plain = [parameter.replace(annotation=parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=plain, return_annotation=signature.empty))
    return text if " at 0x" not in text and "object>" not in text else ", ".join(signature.parameters)


def test_every_public_name_exists():
    for module in MODULES:
        names = import_module(module).__all__
        assert len(set(names)) == len(names)
        assert all(hasattr(import_module(module), name) for name in names)


@pytest.fixture(scope="module", autouse=True)
def _write_if_asked() -> None:
    if "DADKIT_WRITE_API_SURFACE" in os.environ:
        FILE.write_text(json.dumps({module: surface(module) for module in MODULES}, indent=1, ensure_ascii=False) + "\n")


@pytest.mark.parametrize("module", MODULES)
def test_the_public_surface_is_the_one_that_was_agreed_on(module):
    agreed = json.loads(FILE.read_text())[module]
    now = surface(module)
    gone, new = sorted(agreed.keys() - now.keys()), sorted(now.keys() - agreed.keys())
    changed = {name: (agreed[name], now[name]) for name in agreed.keys() & now.keys() if agreed[name] != now[name]}
    found = (gone, new, changed)
    assert found == ([], [], {}), (
        f"{module}: gone {gone}, new {new}, changed {changed}. Removing or changing a public name follows docs/stability.md; "
        "if this is meant, run: DADKIT_WRITE_API_SURFACE=1 pytest tests/test_api_surface.py"
    )


def test_a_change_would_be_seen():
    agreed = json.loads(FILE.read_text())
    assert "reduction='mean'" in agreed["dadkit.losses"]["gradient_matching_loss"]
    assert agreed["dadkit.interfaces"]["Teacher"]["forward()"] == "(self, images)"
    assert "depth, space" in agreed["dadkit.interfaces"]["Prediction"]["()"]
