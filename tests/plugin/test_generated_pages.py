"""Parts of the docs that repeat what code says are held to it; DADKIT_WRITE_DOCS=1 writes them anew."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from dadkit.kinds import KINDS
from dadkit.plugin.messages import known_plugins
from dadkit.testing import checks_of

DOCS = Path(__file__).parents[2] / "docs"
TABLE = "| name | what | write | install |\n|---|---|---|---|\n"
HEADING = "## The checks\n"


def known_table() -> str:
    rows = [
        f"| `{known.name}` | {known.summary} | {known.instead} | {f'`{known.install}`' if known.install else ''} |\n"
        for known in known_plugins().values()
    ]
    return TABLE + "".join(rows)


def checks_section() -> str:
    parts = [HEADING, '\n"since" is the version of the suite that brought a check.\n']
    for kind in (*KINDS, "plugin"):
        parts.append(f"\n### {kind}\n\n| check | contract | since |\n|---|---|---|\n")
        parts += [f"| `{one.name}` | {one.contract} | {one.since} |\n" for one in checks_of(kind).values()]
    return "".join(parts)


@pytest.mark.parametrize(
    ("page", "start", "make"), [("known-plugins.md", TABLE, known_table), ("testing.md", HEADING, checks_section)]
)
def test_the_page_says_what_the_code_says(page, start, make):
    head, found, rest = (DOCS / page).read_text().partition(start)
    assert found
    if "DADKIT_WRITE_DOCS" in os.environ:
        (DOCS / page).write_text(head + make())
        return
    assert found + rest == make(), "run: DADKIT_WRITE_DOCS=1 pytest tests/plugin/test_generated_pages.py"


@pytest.mark.parametrize("kind", [*KINDS, "plugin"])
def test_contracts_are_whole_sentences_of_one_line(kind):
    for one in checks_of(kind).values():
        assert one.contract.endswith("."), one
        assert one.contract[0].isupper(), one
        assert set(one.needs) <= set(checks_of(kind)), one
