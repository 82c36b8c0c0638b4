"""YAML reading: YAML 1.2 values, places, and one located message for everything that is no run's file."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dadkit.config.reader import LARGEST, read_document, read_file, read_text, to_yaml
from dadkit.config.tree import ConfigError, Place


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1.0e-4", 1e-4),
        (".5", 0.5),
        ("1.", 1.0),
        ("-.inf", -math.inf),
        ("3", 3),
        ("-3", -3),
        ("0o17", 15),
        ("0x1F", 31),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        # text in YAML 1.2, something else in 1.1
        ("no", "no"),
        ("on", "on"),
        ("1_000", "1_000"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("'1e-4'", "1e-4"),
        ("!!str 5", "5"),
        ("../photos", "../photos"),
    ],
)
def test_plain_values_are_yaml_1_2(text: str, value: object) -> None:
    node, problems = read_document(f"a: {text}\n", "f.yaml")
    assert not problems
    (read,) = node.plain().values()
    assert read == value
    assert type(read) is type(value)


def test_nan_is_a_number() -> None:
    node, _ = read_document("a: .nan", "f.yaml")
    assert math.isnan(node.plain()["a"])


def test_every_value_and_key_knows_its_place() -> None:
    node, _ = read_document("a: 1\nb:\n  - c: [2, x]\n", "f.yaml")
    inner = node.find(("b", 0, "c"))
    assert inner is not None
    assert inner.key == Place(0, 3, 5, "f.yaml")
    assert inner.find((1,)).place == Place(0, 3, 12, "f.yaml")  # type: ignore[union-attr]
    assert inner.find((1,)).dotted == "b.0.c.1"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "f.yaml:1:1: the file says nothing"),
        ("# only a comment\n", "f.yaml:1:1: the file says nothing"),
        ("- a\n", "f.yaml:1:1: a run is a mapping of keys to values (key: value), this is a list"),
        ("just text", "this is the text 'just text'"),
        ("a:\n\tb: 1\n", "f.yaml:2:1: there is a tab where YAML wants spaces"),
        ("a: 1\n\tb: 2\n", "f.yaml:2:1: there is a tab"),
        ("a: b: c\n", "f.yaml:1:5: unexpected ':'"),
        ("a: [1, 2\nb: 3\n", "f.yaml:1:4: the bracket or quote that opens here is not closed"),
        ("a: 'x\n", "f.yaml:1:4: the bracket or quote that opens here is not closed"),
        ("a:\n  b: 1\n c: 2\n", "f.yaml:3:2: the indentation does not fit"),
        ("a: @x\n", "f.yaml:1:4: text cannot begin with '@'; put it in quotes"),
        ("a: *x\n", "f.yaml:1:4: undefined alias 'x'"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: the run's mapping ends before this line"),
        ("a: &x [*x]\n", "f.yaml:1:4: a.0: a value holds itself"),
        ("a: \x01\n", "f.yaml:1:4: the character U+0001 is not allowed"),
        ("a: " + "[" * 5000, "nested too deeply"),
    ],
)
def test_what_is_no_run_gets_one_located_message(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read_document(text, "f.yaml")
    assert len(caught.value.problems) == 1
    assert message in str(caught.value)
    assert caught.value.exit_code == 2


def test_duplicate_keys_name_both_places_and_do_not_stop_the_reading() -> None:
    node, problems = read_document("a: 1\nb: {c: 1, c: 2}\na: 3\n", "f.yaml")
    assert [str(problem) for problem in problems] == [
        "f.yaml:2:11: b.c: the key is given twice; first at line 2, column 5",
        "f.yaml:3:1: a: the key is given twice; first at line 1, column 1",
    ]
    assert node.plain() == {"a": 1, "b": {"c": 1}}


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.system", "!!python/name:os.system", "!include", "!!binary", "!!set"])
def test_tags_build_nothing(tag: str) -> None:
    node, problems = read_document(f"a: {tag} ['echo']\n", "f.yaml")
    assert f"the tag {tag} is refused" in str(problems[0])
    assert node.plain() == {"a": ["echo"]}


def test_a_tag_that_does_not_fit_its_text() -> None:
    _, problems = read_document("a: !!int x\n", "f.yaml")
    assert str(problems[0]) == "f.yaml:1:4: a: 'x' does not fit its tag !!int"


def test_keys_that_are_no_text_and_merge_keys() -> None:
    _, problems = read_document("? [1]\n: 2\n<<: {a: 1}\n", "f.yaml")
    assert "a key must be text" in str(problems[0])
    assert "merge keys (<<) are not read" in str(problems[1])


def test_aliases_are_values_but_may_not_fill_the_memory() -> None:
    node, problems = read_document("a: &a [1, 2]\nb: *a\n", "f.yaml")
    assert not problems
    assert node.plain() == {"a": [1, 2], "b": [1, 2]}
    laughs = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
    )
    with pytest.raises(ConfigError, match=f"more than {LARGEST} values"):
        read_document(laughs, "f.yaml")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "quickstart.yaml").write_text("a: 1")
    with pytest.raises(ConfigError, match=r"quickstrat.yaml: no such file, did you mean '.*quickstart.yaml'\?"):
        read_file(tmp_path / "quickstrat.yaml")
    with pytest.raises(ConfigError, match="this is a folder"):
        read_file(tmp_path)
    (tmp_path / "latin.yaml").write_bytes("a: 1\nb: caf\u00e9".encode("latin-1"))
    with pytest.raises(ConfigError, match=r"latin.yaml:2:7: not UTF-8 text \(byte 0xe9\)"):
        read_file(tmp_path / "latin.yaml")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "windows.yaml").write_bytes(b"\xef\xbb\xbfa: 1\r\nb: 2\r\n")
    node, _ = read_file(tmp_path / "windows.yaml")
    assert node.plain() == {"a": 1, "b": 2}


_scalars = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters(exclude_categories=["Cs"]))
)
_data = st.recursive(_scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("aZ_-9", min_size=1), inner))


@given(_data)
def test_what_is_written_is_read_again(data: object) -> None:
    node, problems = read_text(to_yaml(data), Place(0, 1, 1, "f.yaml"))
    assert not problems
    assert node.plain() == data
    assert repr(node.plain()) == repr(data)  # 1 and 1.0 and True are different things


@pytest.mark.parametrize(
    "text", ["1e-4", "0o17", "null", "~", "true", "12", ".inf", "- a", "a: b", "#x", "", " a", "\tx", "a\nb\n"]
)
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    node, _ = read_text(to_yaml({"a": text}), Place(0, 1, 1, "f.yaml"))
    assert node.plain() == {"a": text}
