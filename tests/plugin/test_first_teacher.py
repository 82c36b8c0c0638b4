"""Executes docs/first-teacher.md: files are written, scripts run, commands typed, and their output compared.

A block whose opening line names a file (```` ```toml pyproject.toml ````) is that file; a ``console`` block holds commands after
``$ `` and what they print, where ``…`` stands for anything; a ``python`` block without a file name is a script.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "first-teacher.md"


@dataclass
class Block:
    language: str
    file: str
    text: str


def blocks(page: str) -> list[Block]:
    found = re.findall(r"^```(\w+)(?: (\S+))?\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    return [Block(*parts) for parts in found]


def commands(text: str) -> list[tuple[str, str]]:
    """(command, expected output) of a console block."""
    return [
        (command, expected.strip("\n")) for command, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", text, re.MULTILINE)
    ]


def as_pattern(expected: str) -> str:
    return r"\s*" + ".*".join(re.escape(part) for part in expected.split("…")) + r"\s*"


def test_the_reader_of_the_page_finds_every_block():
    page = PAGE.read_text()
    assert page.count("\n```") == 2 * len(blocks(page))
    assert {block.language for block in blocks(page)} == {"toml", "python", "console", "yaml"}


@pytest.mark.slow
def test_the_page_works_as_written(environment):
    for block in blocks(PAGE.read_text()):
        if block.file:
            path = environment.work / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text)
        elif block.language == "console":
            for command, expected in commands(block.text):
                _, output = environment.run(command)
                assert re.fullmatch(as_pattern(expected), output, re.DOTALL), f"$ {command}\n{output}"
        else:
            (environment.work / "script.py").write_text(block.text)
            code, output = environment.run("python script.py")
            assert code == 0, output
