"""The public names and how they are called, held against ``tests/api_surface.json``: none goes or changes by accident.

The keys of that file are the one list of public modules; their ``__all__`` are the public names. The stability page, the rules
for plugins (``test_architecture.py``) and everything that is shown to users agree with it. After a change that is meant, write
the file anew and commit it beside the change; to make a module public, first add it to the file as ``"dadkit.x": {}``:

    DADKIT_WRITE_API_SURFACE=1 pytest tests/test_api_surface.py
"""

from __future__ import annotations

import inspect
import json
import os
import re
from enum import Enum
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FILE = Path(__file__).with_name("api_surface.json")
ROOT = FILE.parents[1]
MODULES = tuple(json.loads(FILE.read_text()))
SHOWN = [
    ROOT / "README.md",
    *sorted(ROOT.glob("docs/*.md")),
    *sorted(path for path in ROOT.glob("examples/**/*") if path.suffix in {".md", ".py"}),
    *sorted(ROOT.glob("dadkit/plugin/templates/*.py.template")),
]
"""What users read, copy and start from."""


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


def test_the_stability_page_lists_the_public_modules():
    paragraph = (ROOT / "docs" / "stability.md").read_text().partition("## What is public")[2].partition(";")[0]
    assert re.findall(r"`(dadkit[\w.]*)`", paragraph) == list(MODULES)


@pytest.mark.parametrize("path", SHOWN, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_users_are_shown_imports_public_names_only(path):
    private = []
    for module, names in re.findall(r"^ *from (dadkit[\w.]*) import (\([^)]*\)|[^#\n]*)", path.read_text(), re.MULTILINE):
        if module.partition(".")[0] == "dadkit":
            public = set(import_module(module).__all__) if module in MODULES else set()
            private += [f"{module}.{name}" for name in re.findall(r"\$?\w+", names) if name not in public and name[0] != "$"]
    assert not private, "make the name public, or show another way"


def test_a_change_would_be_seen():
    agreed = json.loads(FILE.read_text())
    assert "reduction='mean'" in agreed["dadkit.losses"]["gradient_matching_loss"]
    assert agreed["dadkit.interfaces"]["Teacher"]["forward()"] == "(self, images, cameras=None)"
    assert "depth, space" in agreed["dadkit.interfaces"]["Prediction"]["()"]
