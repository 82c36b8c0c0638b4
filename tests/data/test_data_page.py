"""docs/data.md names every option of the built-in datasets and contexts, with the defaults they have."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from dadkit.contexts import LocalGlobal, Shared, Whole
from dadkit.data import DepthPairs, Images
from dadkit.data.depth_files import SUFFIXES
from dadkit.data.folders import EXTENSIONS

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")


def section(title: str) -> str:
    return re.split(r"^## ", PAGE.split(f"## {title}")[1], maxsplit=1, flags=re.MULTILINE)[0]


def table(text: str) -> dict[str, str]:
    """Option -> the second column of its row; a row may name several options."""
    rows = {}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        for name in re.findall(r"`(\w+)`", cells[0]) if line.startswith("|") else []:
            rows[name] = cells[1]
    return rows


@pytest.mark.parametrize(
    ("title", "targets"),
    [
        ("Unlabelled images: `images`", [Images]),
        ("Images with depth: `pairs`", [DepthPairs]),
        ("Contexts", [Whole, Shared, LocalGlobal]),
    ],
)
def test_every_option_is_on_the_page(title: str, targets: list[type]) -> None:
    rows = table(section(title))
    known: dict[str, inspect.Parameter] = {}
    for target in targets:
        known |= inspect.signature(target).parameters
    assert known.keys() <= rows.keys()
    assert {name for name in rows if "_" in name} <= known.keys()
    for name, parameter in known.items():
        if isinstance(parameter.default, int) and not isinstance(parameter.default, bool) and "," not in rows[name]:
            assert rows[name] == str(parameter.default), name


def test_extensions_and_encodings_are_the_codes() -> None:
    line = next(part for part in PAGE.split("\n\n") if "Folders and shards are searched" in part)
    assert set(re.findall(r"`(\.\w+)`", line)) == {*EXTENSIONS, ".avif", ".heic", ".heif"}
    assert all(f"`{encoding}`" in section("Images with depth: `pairs`") for encoding in SUFFIXES)


def test_the_example_runs(folder_of, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    root = folder_of(*(f"{i}.jpg" for i in range(3)), size=(660, 700))
    monkeypatch.chdir(root.parent)
    code = PAGE.split("```python\n")[1].split("```")[0]
    exec(code.replace("workers=2", "workers=0"), {})
    assert capsys.readouterr().out == "8 8 {}\n"
