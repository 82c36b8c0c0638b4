"""The page of situations and the tests of them name the same ones."""

import re
from pathlib import Path

HERE = Path(__file__).parent


def test_every_row_has_a_test_and_every_test_a_row():
    page = (HERE.parents[1] / "docs" / "situations.md").read_text(encoding="utf-8")
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| ") and not line.startswith("| #")]
    shown = {int(number) for row in rows for number in row.split(",")}
    tested = set()
    for file in sorted(HERE.glob("test_*.py")):
        for name in re.findall(r"^def test_(\w+)", file.read_text(encoding="utf-8"), re.MULTILINE):
            numbers = re.match(r"\d\d(?:_and_\d\d)*(?=_)", name)
            assert numbers or file == Path(__file__), f"{file.name}: test_{name} has no number"
            tested |= {int(number) for number in numbers[0].split("_and_")} if numbers else set()
    assert shown == tested
