"""The pages about plugins: complete, and true when executed."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from dadkit.plugin import PluginState
from dadkit.plugin.hookspecs import HOOKS, Register
from dadkit.plugin.registration import Registrar

DOCS = Path(__file__).parents[2] / "docs"


def test_every_hook_is_documented_with_its_arguments():
    expected = {f"{name}({', '.join(inspect.signature(spec).parameters)})" for name, spec in HOOKS.items()}
    assert set(re.findall(r"^### `(\w+\(.*\))`$", (DOCS / "plugins.md").read_text(), re.MULTILINE)) == expected


def test_every_argument_of_register_is_documented_in_order():
    table = (DOCS / "plugins.md").read_text().partition("## Arguments of `register`")[2].partition("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE)
    promised = [name for name in inspect.signature(Register.__call__).parameters if name != "self"]
    taken = [name for name in inspect.signature(Registrar.__call__).parameters if name not in {"self", "unknown"}]
    assert documented == promised == taken


def test_every_state_has_an_anchor():
    states = (DOCS / "plugins.md").read_text().partition("## States")[2].partition("\n## ")[0]
    assert re.findall(r"^### `(\S+)`$", states, re.MULTILINE) == [str(state) for state in PluginState]


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", ["first-teacher.md", "plugins.md", "new-plugin.md", "terms.md", "testing.md", "../examples/lantern/README.md"]
)
def test_the_page_works_as_written(execute_page, page):
    execute_page(DOCS / page)


def test_the_example_is_its_page_word_for_word():
    """What the tutorial shows is what lies beside it."""
    folder = DOCS.parent / "examples" / "lantern"
    blocks = dict(re.findall(r"^```\w+ (\S+)\n(.*?)^```$", (folder / "README.md").read_text(), re.MULTILINE | re.DOTALL))
    files = {
        path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.suffix in {".py", ".toml", ".yaml"}
    }
    assert blocks.keys() == files.keys()
    assert {name: path.read_text() for name, path in files.items()} == blocks
